/**
 * Writes schema/recipe.json, the JSON schema of recipes that ships with the package.
 * Run: npx tsx scripts/docs/schema.ts
 */

import { mkdirSync, writeFileSync } from 'node:fs';
import { recipeJsonSchema } from '../../src/recipe/json-schema.ts';

mkdirSync('schema', { recursive: true });
writeFileSync('schema/recipe.json', `${JSON.stringify(recipeJsonSchema(), null, 2)}\n`);
