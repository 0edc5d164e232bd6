/**
 * Recipes are typed by method: what would be refused at run time does not compile, either. Each `@ts-expect-error` is
 * checked by tsc (`npm run check`), and each line by running it.
 */

import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import type { LinearMethod, Named, RecipeInput, RecipeStep } from '../src/index.ts';
import { methods, parseRecipe, step } from '../src/index.ts';

describe('a recipe', () => {
  it('compiles with the options of each method, and complete ones back', () => {
    const input: RecipeInput = {
      model: './my-model',
      steps: [
        { method: 'smoothquant', alpha: 0.5 },
        { method: 'gptq', bits: 4, group: 32, numbers: 'integers', targets: ['blocks', '*.down_proj'] },
        { method: 'ggml', type: 'Q4_K_M', targets: ['last'] },
        { method: 'rtn', bits: 8, targets: ['embeddings'] },
        { method: 'e2e-qp' },
      ],
      calibration: { data: 'text.jsonl', length: 64 },
      export: { format: 'onnx', activations: 'float16' },
    };
    const { steps } = parseRecipe(input);
    expect(steps.map(({ method }) => method.name)).toEqual(['smoothquant', 'gptq', 'ggml', 'rtn', 'e2e-qp']);
    expect(steps[1]!.options).toMatchObject({ bits: 4, group: 32, passes: 0 });
  });

  it('knows every method that there is', () => {
    // A method whose name is not in its type would make no step.
    const every: Record<Extract<RecipeStep['method'], string>, true> = {
      autoround: true,
      awq: true,
      binary: true,
      'block-ap': true,
      'e2e-qp': true,
      ggml: true,
      gptq: true,
      hqq: true,
      keep: true,
      'llm-int8': true,
      owq: true,
      quarot: true,
      rtn: true,
      smoothquant: true,
      spinquant: true,
      spqr: true,
      w4a8: true,
      w8a8: true,
    };
    expect(Object.keys(every).sort()).toEqual(methods.map(({ name }) => name).sort());
  });

  // @ts-expect-error
  const section = () => parseRecipe({ setps: [{ method: 'gptq' }] });
  // @ts-expect-error
  const method = () => parseRecipe({ steps: [{ method: 'gtpq' }] });
  // @ts-expect-error
  const option = () => parseRecipe({ steps: [{ method: 'gptq', bitz: 4 }] });
  // @ts-expect-error
  const words = () => parseRecipe({ steps: [{ method: 'gptq', bits: 'four' }] });
  // @ts-expect-error
  const bits = () => parseRecipe({ steps: [{ method: 'gptq', bits: 5 }] });
  // @ts-expect-error
  const another = () => parseRecipe({ steps: [{ method: 'ggml', bits: 4 }] });
  // @ts-expect-error
  const targets = () => parseRecipe({ steps: [{ method: 'quarot', targets: ['blocks'] }] });
  // @ts-expect-error
  const format = () => parseRecipe({ steps: [{ method: 'rtn' }], export: { format: 'gguv' } });

  it.each([
    ['a misspelt section', section, 'steps'],
    ['a misspelt method', method, 'did you mean "gptq"?'],
    ['a misspelt option', option, 'did you mean "bits"?'],
    ['bits in words', words, 'option "bits" does not fit'],
    ['bits that there are not', bits, 'option "bits" does not fit'],
    ['the option of another method', another, 'unknown option "bits"'],
    ['targets of what is for the whole model', targets, 'has no targets'],
    ['an unknown format', format, 'export.format'],
  ])('with %s is refused, and does not compile', (_, make, message) => {
    expect(make).toThrow(message);
  });
});

describe('a method of one’s own', () => {
  const options = z.strictObject({
    keep: z.number().min(0).max(1).default(0.5).describe('Share that stays.'),
  });
  type Options = z.output<typeof options>;
  const mine: LinearMethod<Options> & Named<'mine', typeof options> = {
    shape: 'linear',
    name: 'mine',
    summary: 'An example.',
    options,
    statistic: () => 'none',
    compress: () => Promise.reject(new Error('not run here')),
  };

  it('is given as the object itself, with options by its own schema', () => {
    const { steps } = parseRecipe({
      steps: [step(mine, { keep: 0.25, targets: ['last'] }), { method: 'rtn' }],
    });
    expect(steps[0]).toEqual({ method: mine, targets: ['last'], options: { keep: 0.25 } });
    expect(parseRecipe({ steps: [step(mine)] }).steps[0]!.options).toEqual({ keep: 0.5 });
  });

  it('refuses a misspelt one of these, which does not compile', () => {
    // @ts-expect-error
    const own = () => step(mine, { keeep: 1 });
    expect(() => parseRecipe({ steps: [own()] })).toThrow('did you mean "keep"?');
  });

  it('has a name of its own: a recipe that a run writes must not mean another method', () => {
    for (const [name, message] of [
      ['rtn', 'the name of a built-in one'],
      [' ', 'a method without a name'],
    ] as const)
      expect(() => parseRecipe({ steps: [step({ ...mine, name })] })).toThrow(message);
    // The built-in one itself is no other.
    const rtn = methods.find(({ name }) => name === 'rtn')!;
    expect(parseRecipe({ steps: [step(rtn)] }).steps[0]!.method).toBe(rtn);
  });
});
