/** The library's `recommend` and the command line without `--method` are one. */

import { describe, expect, it } from 'vitest';
import { ExitCode } from '../base/errors.ts';
import { destinationOf, engineNames } from '../formats/engines.ts';
import { formats } from '../formats/index.ts';
import { checkRecipe, plainRecipe } from '../recipe/recipe.ts';
import type { RecommendOptions } from '../run/asked.ts';
import { recommend, runOf } from '../run/asked.ts';
import { recipeInput } from './recipe.ts';

const model = 'models/pebble';

const byFlags = (flags: Readonly<Record<string, unknown>>) =>
  plainRecipe(checkRecipe(recipeInput(model, undefined, (name) => flags[name])));

describe('recommend', () => {
  it.each(engineNames)('for %s: the recipe of the command line, whatever bits and texts', async (engine) => {
    const { keepsTables } = formats[destinationOf(engine, undefined).format];
    for (const bits of [undefined, 2, 3, 4, 8] as const) {
      for (const calibration of [undefined, 'text.jsonl']) {
        for (const embeddingBits of keepsTables ? [undefined] : ([undefined, 4, 16] as const)) {
          const asked = { for: engine, bits, embeddingBits };
          const { recipe, reason } = await recommend({ model, ...asked, calibration });
          expect(plainRecipe(recipe)).toEqual(byFlags({ ...asked, calibration }));
          expect(reason).toBe(recipe.reason);
        }
      }
    }
  });

  it('takes all that a recipe has but steps', async () => {
    const { recipe } = await recommend({
      model,
      for: 'wasm',
      bits: 4,
      seed: 3,
      calibration: { data: 'text.txt', length: 64 },
      evaluation: 'held-out.txt',
      export: { products: 'qdq' },
    });
    expect(recipe).toMatchObject({
      seed: 3,
      calibration: { data: 'text.txt', length: 64, sequences: 128 },
      evaluation: { data: 'held-out.txt' },
      export: { format: 'onnx', products: 'qdq' },
    });
  });

  it('with an importance matrix is what that is enough for', async () => {
    const { recipe } = await recommend({ model, for: 'ollama', calibration: { imatrix: 'imatrix.gguf' } });
    expect(recipe.steps[0]).toMatchObject({ method: { name: 'ggml' }, options: { fit: 'importance' } });
    expect(plainRecipe(recipe)).toEqual(byFlags({ for: 'ollama', imatrix: 'imatrix.gguf' }));
  });

  it.each<[string, RecommendOptions, string]>([
    ['an unknown engine, with the nearest', { for: 'lama.cpp' as 'llama.cpp' }, 'did you mean "llama.cpp"?'],
    [
      'an engine that runs another format',
      { for: 'vllm', export: { format: 'mlx' } },
      'vllm does not run MLX',
    ],
    ['bits that there are not', { bits: 5 as 4 }, 'bits'],
    ['tables where the format keeps them', { for: 'vllm', embeddingBits: 4 }, 'keeps the embedding'],
  ])('refuses %s', async (_, options, message) => {
    const refused = recommend({ model, ...options });
    await expect(refused).rejects.toThrow(message);
    await expect(refused).rejects.toMatchObject({ exitCode: ExitCode.usage });
  });
});

describe('a run that is asked for', () => {
  it('without a recipe is the recommended one, in a folder named as on the command line', async () => {
    const { recipes, out, device } = await runOf({ model, for: 'llama.cpp', bits: 4, device: 'cpu' });
    const [{ recipe }] = recipes;
    expect(plainRecipe(recipe)).toEqual(byFlags({ for: 'llama.cpp', bits: 4 }));
    expect(out).toBe('pebble-gguf-ggml-Q4_K_M');
    expect(device).toBe('cpu');
  });

  it('with steps has these alone, written for the engine', async () => {
    const { recipes } = await runOf({ model, steps: [{ method: 'rtn', bits: 8 }], for: 'browser' });
    const [{ recipe }] = recipes;
    expect(recipe.steps).toHaveLength(1);
    expect(recipe.steps[0]).toMatchObject({
      method: { name: 'rtn' },
      targets: ['blocks'],
      options: { bits: 8 },
    });
    expect(recipe.export.activations).toBe('float16');
    expect(recipe.reason).toBeUndefined();
  });

  it('with a recipe is that', async () => {
    const { recipe } = await recommend({ model });
    expect(await runOf({ recipe, out: './small' })).toMatchObject({ recipes: [{ recipe }], out: './small' });
  });

  it('without a model is a first look at the one that ships, on as much text as the command line takes', async () => {
    const { recipes } = await runOf({});
    expect(plainRecipe(recipes[0].recipe)).toEqual(
      plainRecipe(
        checkRecipe(
          recipeInput(undefined, undefined, () => undefined),
          'test',
        ),
      ),
    );
    expect(recipes[0].recipe.calibration.sequences).toBe(48);
  });

  it('takes no bits beside steps, which have their own', async () => {
    // @ts-expect-error and does not compile
    const refused = runOf({ model, steps: [{ method: 'rtn' }], bits: 4 });
    await expect(refused).rejects.toThrow('bits beside steps');
  });
});
