/** `lapidary schema`: what a recipe may say, for editors. */

import { Command } from 'commander';
import { recipeJsonSchema } from '../recipe/json-schema.ts';
import { print } from './common.ts';

export function command(): Command {
  return new Command('schema')
    .summary('the JSON schema of recipe.yaml, for editors')
    .description('Prints the JSON schema of recipes: editors complete and check by it what is written.')
    .addHelpText(
      'after',
      `
Example:
  lapidary schema > recipe.schema.json

Then, as the first line of recipe.yaml, for VS Code (with its YAML extension) and whatever else has yaml-language-server:
  # yaml-language-server: $schema=recipe.schema.json

A project that has lapidary among its packages has it in node_modules/lapidary/schema/recipe.json.`,
    )
    .action(() => print(JSON.stringify(recipeJsonSchema(), null, 2)));
}
