/** Steps written one by one, beside the shorthand of one step. */

import { describe, expect, it } from 'vitest';
import { formats } from '../formats/index.ts';
import type { Recipe } from '../recipe/recipe.ts';
import { checkRecipe, plainRecipe } from '../recipe/recipe.ts';
import { recipeInput } from './recipe.ts';

const flags = (values: Readonly<Record<string, unknown>>): Recipe =>
  checkRecipe(recipeInput(undefined, undefined, (name) => values[name]));
const steps = (values: Readonly<Record<string, unknown>>) => plainRecipe(flags(values)).steps;

describe('--step', () => {
  it.each(Object.keys(formats))('alone is what --method with its options is, for %s', (format) => {
    const pairs = [
      ['gptq bits=4 group=32 symmetric', { method: 'gptq', bits: 4, group: 32, symmetric: true }],
      ['rtn bits=8', { method: 'rtn', bits: 8 }],
      ['awq', { method: 'awq' }],
      ['hqq', { method: 'hqq' }],
      ['ggml type=Q4_K_M', { method: 'ggml', type: 'Q4_K_M' }],
      ['keep', { method: 'keep' }],
    ] as const;
    for (const [text, shorthand] of pairs)
      expect(steps({ format, step: [text] }), text).toEqual(steps({ format, ...shorthand }));
    expect(steps({ format: 'onnx', step: ['rtn'], embeddingBits: '4' })).toEqual(
      steps({ format: 'onnx', method: 'rtn', embeddingBits: '4' }),
    );
  });

  it('has them in order, each with options of its own', () => {
    const chain = [
      'awq',
      'gptq bits=3 group=64',
      'rtn bits=8 targets=first:2',
      'rtn bits=2 targets=*.down_proj',
    ];
    expect(steps({ step: chain })).toMatchObject([
      { method: 'awq' },
      { method: 'gptq', bits: 3, group: 64, targets: ['blocks'] },
      { method: 'rtn', bits: 8, targets: ['embeddings'] },
      { method: 'rtn', bits: 8, targets: ['first:2'] },
      { method: 'rtn', bits: 2, targets: ['*.down_proj'] },
    ]);
  });

  it('with targets of its own in each leaves all else as it is, unless --embedding-bits says more', () => {
    const step = ['rtn bits=4 targets=attention', 'rtn bits=8 targets=feed-forward'];
    expect(steps({ step })).toHaveLength(2);
    expect(steps({ step, embeddingBits: '8' })).toMatchObject([{}, { targets: ['embeddings'] }, {}]);
  });

  it('is not mixed with the shorthand', () => {
    const step = ['gptq'];
    expect(() => flags({ step, bits: 4 })).toThrow(/--bits beside --step(.|\n)*"METHOD bits=4"/);
    expect(() => flags({ step, codeRate: 1e-5 })).toThrow('--code-rate beside --step');
    expect(() => flags({ step, method: 'awq' })).toThrow(/--method beside --step(.|\n)*--step "awq"/);
    expect(() => flags({ step, also: ['last bits=8'] })).toThrow('--also beside --step');
  });

  it('names the step that cannot be read', () => {
    expect(() => flags({ step: ['awq', 'gptq bitz=4'] })).toThrow(
      /--step 2, "gptq bitz=4": unknown option "bitz"(.|\n)*did you mean "bits"/,
    );
  });
});
