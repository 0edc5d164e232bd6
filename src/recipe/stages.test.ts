import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import type { BlockTraining, ModelRewrite } from '../contract/method.ts';
import { checkRecipe } from './recipe.ts';
import { stagesOf } from './stages.ts';

/** Somebody's own method: the last layer goes. */
const shorter: ModelRewrite = {
  shape: 'rewrite',
  scope: 'model',
  changes: 'structure',
  name: 'shorter',
  summary: 'Leaves out the last layer.',
  options: z.strictObject({}),
  needsText: () => false,
  rewrite: async (model) => model,
};

/** Stages in words: "quarot, walk (gptq, rtn), e2e-qp". */
const inWords = (...steps: readonly object[]): string =>
  stagesOf(checkRecipe({ steps }).steps)
    .map((stage) =>
      stage.kind === 'walk'
        ? `walk (${stage.steps.map(({ method }) => method.name).join(', ')})`
        : stage.method.name,
    )
    .join(', ');

const [gptq, rtn, awq] = ['gptq', 'rtn', 'awq'].map((method) => ({ method }));
const quarot = { method: 'quarot' };
const training = { method: 'e2e-qp' };
const own = { method: shorter };

describe('the steps of a recipe', () => {
  it('of one family are one part, wherever they stand: rewrites of the model, one walk, training', () => {
    const expected = 'quarot, walk (awq, gptq, rtn), e2e-qp';
    expect(inWords(quarot, awq, gptq, training, rtn)).toBe(expected);
    expect(inWords(awq, gptq, quarot, rtn, training)).toBe(expected);
  });

  it('that change the structure stand where they are, and what follows sees the model as they leave it', () => {
    expect(inWords(own, gptq, training)).toBe('shorter, walk (gptq), e2e-qp');
    expect(inWords(gptq, own, rtn)).toBe('walk (gptq), shorter, walk (rtn)');
    expect(inWords(own)).toBe('shorter');
  });

  it('that train compressed blocks and are of no family belong to the part before them', () => {
    const tune: BlockTraining = {
      shape: 'train',
      scope: 'compressed block',
      name: 'tune',
      summary: 'Moves nothing.',
      options: z.strictObject({}),
      fisher: () => 0,
      batch: () => 1,
      train: async () => ({ matrices: new Map(), vectors: new Map() }),
    };
    expect(inWords(gptq, { method: tune }, rtn)).toBe('walk (gptq, tune, rtn)');
    expect(() => inWords(own, { method: tune })).toThrow(/no step beside it compresses any/);
  });

  it('tell a rewrite which walk comes after it', () => {
    const [first, second] = stagesOf(checkRecipe({ steps: [own, quarot, gptq] }).steps);
    for (const stage of [first, second])
      expect(stage!.kind === 'rewrite' && stage!.next.map(({ method }) => method.name)).toEqual(['gptq']);
  });
});

describe('an order that makes no sense is refused, saying which would', () => {
  it.each([
    ['training of a model that nothing has changed', [training], /nothing before it changes the model/],
    [
      'training of blocks where none is compressed',
      [own, { method: 'block-ap' }],
      /no step beside it compresses any/,
    ],
    [
      'rotation of what is compressed',
      [gptq, own, quarot, rtn],
      /what gptq made of them would be lost\n.*put it before gptq/,
    ],
  ])('%s', (_, steps, message) => {
    expect(() => checkRecipe({ steps })).toThrow(message);
  });
});
