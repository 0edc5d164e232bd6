/** The vocabulary cut to its first tokens: a rewrite that changes the tokenizer's files with the model. */

import { z } from 'zod';
import { denseValues } from '../../src/encodings/dense.ts';
import type { ModelRewrite } from '../../src/contract/method.ts';
import type { CountedFamily } from './counts.ts';

const options = z.strictObject({
  keep: z.int().min(512).max(2048).default(1024).describe('How many tokens stay.'),
});

interface TokenizerJson {
  readonly model: {
    readonly vocab: Readonly<Record<string, number>>;
    /** Two tokens each: as a pair, or with a space between them. */
    readonly merges: readonly (string | readonly [string, string])[];
  };
}

/** Of a byte-level BPE: tokens in the order of their ids, and the merges that give one of them. */
export const fewerWords: ModelRewrite<z.infer<typeof options>> = {
  shape: 'rewrite',
  scope: 'model',
  changes: 'structure',
  name: 'fewer-words',
  summary: 'Keeps the first tokens of the vocabulary.',
  options,
  needsText: () => false,
  async rewrite(model, { keep }) {
    const json = JSON.parse(new TextDecoder().decode(model.files.get('tokenizer.json')!())) as TokenizerJson;
    const vocab = Object.fromEntries(Object.entries(json.model.vocab).filter(([, id]) => id < keep));
    const merges = json.model.merges.filter(
      (pair) => (typeof pair === 'string' ? pair.replace(' ', '') : pair.join('')) in vocab,
    );
    const text = JSON.stringify({ ...json, model: { ...json.model, vocab, merges } });
    const matrices = new Map(model.matrices);
    for (const name of model.architecture.around(model.config).tables) {
      const { shape, dense } = model.matrices.get(name)!;
      matrices.set(name, denseValues(dense().slice(0, keep * shape[1]), keep, shape[1]));
    }
    const { config } = model;
    return {
      ...model,
      matrices,
      config: { ...config, vocabulary: keep, json: { ...config.json, vocab_size: keep } },
      files: new Map(model.files).set('tokenizer.json', () => new TextEncoder().encode(text)),
    };
  },
};

export const reshape: CountedFamily = {
  name: 'reshape',
  title: 'Leaner architecture',
  baseline: fewerWords,
  methods: [fewerWords],
  // The head reads the table.
  adds: { 'fewer-words': ({ hidden, vocabulary }) => hidden * (1024 - vocabulary) },
};
