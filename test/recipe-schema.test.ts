/** The JSON schema of recipes, as a validator of its own reads it: it says what the program says. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv } from 'ajv';
import { afterAll, describe, expect, it } from 'vitest';
import { ExitCode } from '../src/base/errors.ts';
import { parseYaml } from '../src/base/yaml.ts';
import { engineNames } from '../src/formats/engines.ts';
import { methods, recommend, writeRecipe } from '../src/index.ts';
import { findMethod } from '../src/methods/index.ts';
import { recipeJsonSchema } from '../src/recipe/json-schema.ts';
import { checkRecipe, recipeFile } from '../src/recipe/recipe.ts';
import { answer, scratchFolder } from './command-line.ts';
import { writeTinyCheckpoint } from './models/checkpoint.ts';

const scratch = scratchFolder();
afterAll(scratch.remove);

const validate = new Ajv({ allErrors: true }).compile(recipeJsonSchema());
const problems = (recipe: unknown) => (validate(recipe) ? [] : validate.errors);
const taken = (recipe: unknown): boolean => {
  try {
    checkRecipe(recipe);
    return true;
  } catch {
    return false;
  }
};

describe('the JSON schema of recipes', () => {
  it('is the one that ships: npx tsx scripts/docs/schema.ts', () => {
    const shipped = JSON.parse(readFileSync('schema/recipe.json', 'utf8')) as unknown;
    expect(shipped).toEqual(recipeJsonSchema());
  });

  it.each(engineNames)('takes what is recommended for %s, as it is written', async (engine) => {
    for (const bits of [2, 3, 4, 8] as const) {
      for (const calibration of [undefined, 'text.jsonl']) {
        const { recipe } = await recommend({ model: 'models/pebble', for: engine, bits, calibration });
        expect(problems(parseYaml(writeRecipe(recipe), 'recipe.yaml'))).toEqual([]);
      }
    }
  });

  it.each(methods.map(({ name }) => name))('takes %s with every option as it is by default', (name) => {
    // Training stands behind what it trains, rewrites before it.
    const method = findMethod(name);
    const steps = [{ method: name }, { method: 'rtn', bits: 8 }];
    const recipe = checkRecipe({ steps: method.shape === 'train' ? steps.reverse() : steps });
    expect(problems(parseYaml(writeRecipe(recipe), 'recipe.yaml'))).toEqual([]);
  });

  it.each(['onnx', 'gguf'])('takes what a run writes, versions and hashes with it: %s', async (format) => {
    const model = scratch.path('tiny');
    await writeTinyCheckpoint(model, { num_hidden_layers: 1 });
    const out = scratch.path(format);
    const { code, stderr } = await answer([
      'compress',
      model,
      '--format',
      format,
      '--no-speed',
      '--out',
      out,
    ]);
    expect(stderr).not.toContain('error');
    expect(code).toBe(ExitCode.ok);
    const written = join(out, 'recipe.yaml');
    expect(readFileSync(written, 'utf8')).toMatch(/^# .*lapidary schema --help\n/);
    expect(recipeFile(written).made).toBeDefined();
    expect(problems(recipeFile(written))).toEqual([]);
  });

  it.each<[string, unknown]>([
    ['a misspelt section', { steps: [{ method: 'rtn' }], calibratoin: {} }],
    ['a misspelt key of a section', { steps: [{ method: 'rtn' }], calibration: { dat: 'text.jsonl' } }],
    ['no steps', { model: './my-model' }],
    ['an empty list of steps', { steps: [] }],
    ['a misspelt method', { steps: [{ method: 'gtpq' }] }],
    ['a step without a method', { steps: [{ bits: 4 }] }],
    ['a misspelt option', { steps: [{ method: 'gptq', bitz: 4 }] }],
    ['the option of another method', { steps: [{ method: 'ggml', bits: 4 }] }],
    ['bits that there are not', { steps: [{ method: 'rtn', bits: 5 }] }],
    ['bits in words', { steps: [{ method: 'rtn', bits: '4' }] }],
    ['targets of what is for the whole model', { steps: [{ method: 'quarot', targets: ['blocks'] }] }],
    ['a share beyond 1', { steps: [{ method: 'gptq', damping: 2 }] }],
    ['a format that there is not', { steps: [{ method: 'rtn' }], export: { format: 'gguv' } }],
    ['half a sequence', { steps: [{ method: 'rtn' }], calibration: { sequences: 1.5 } }],
  ])('refuses %s, as the program does', (_, recipe) => {
    expect(problems(recipe)).not.toEqual([]);
    expect(taken(recipe)).toBe(false);
  });

  it('is printed by lapidary schema', async () => {
    const { code, stdout } = await answer(['schema']);
    expect(code).toBe(ExitCode.ok);
    expect(JSON.parse(stdout)).toEqual(recipeJsonSchema());
  });
});
