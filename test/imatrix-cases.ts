/** Models and texts whose importance matrices llama-imatrix has made, for the test and for whoever makes them again. */

import { readDocuments } from '../src/calibrate/data.ts';
import { openModel, shipped } from '../src/open.ts';
import type { Model } from '../src/models/model.ts';
import type { Tokenizer } from '../src/tokenizer/tokenizer.ts';
import { loadTokenizer } from '../src/tokenizer/tokenizer.ts';
import type { Golden } from './engines/models.ts';
import { byteTokenizer, openGolden } from './engines/models.ts';

export interface ImatrixCase {
  readonly model: Model;
  readonly tokenizer: Tokenizer;
  /** One document, as llama-imatrix reads a file. */
  readonly text: string;
  readonly chunkSize: number;
  /** Weights whose sums are kept. */
  readonly kept: RegExp;
}

/** The tiny model of an architecture, a token for each byte, no BOS. */
async function tiny(name: Golden): Promise<ImatrixCase> {
  const files = byteTokenizer();
  const text = 'The gem cutter turned the stone once more, and this time the light came out of it. '.repeat(
    3,
  );
  const model = { ...(await openGolden(name)), files };
  return { model, tokenizer: loadTokenizer(files), text, chunkSize: 48, kept: /./ };
}

/** The model that ships with the package, whose chunks begin with BOS: its last block, and the tied head. */
async function pebble(): Promise<ImatrixCase> {
  const { model, tokenizer } = await openModel(undefined);
  const stories = await readDocuments(shipped.data);
  const text = stories.slice(0, 5).join('\n');
  return { model: model!, tokenizer, text, chunkSize: 128, kept: /^(blk\.5|token_embd)\./ };
}

export const imatrixCases: Readonly<Record<string, () => Promise<ImatrixCase>>> = {
  llama: () => tiny('llama'),
  gpt2: () => tiny('gpt2'),
  qwen3: () => tiny('qwen3'),
  pebble,
};
