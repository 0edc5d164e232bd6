/** GGUF files of ours read back, and in llama.cpp. */

import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openCheckpoint } from '../src/io/checkpoint.ts';
import { openGguf } from '../src/io/gguf/read.ts';
import { writeGguf } from '../src/io/gguf/write.ts';
import { modelFromGguf } from '../src/models/gguf.ts';
import type { FloatType } from '../src/models/gguf-write.ts';
import { ggufOf } from '../src/models/gguf-write.ts';
import { loadModel } from '../src/models/index.ts';
import type { Model } from '../src/models/model.ts';
import { logits } from '../src/models/runner.ts';
import { shipped } from '../src/open.ts';
import { loadTokenizer } from '../src/tokenizer/tokenizer.ts';
import type { Answer } from './engines/llama/llama.ts';
import { askLlama, hasLlama } from './engines/llama/llama.ts';
import {
  architectures,
  expectedOf,
  hasStories,
  maxDifference,
  openGolden,
  openStories,
} from './engines/models.ts';

const missing = hasLlama ? '' : ' (skipped: run node test/engines/install.js)';

let scratch: string;
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), 'lapidary-gguf-'));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** A token for each byte, for models without a tokenizer; 256 of them. */
function byteTokenizer(): Model['files'] {
  const visible = (byte: number) => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
  let others = 0;
  const characters = Array.from({ length: 256 }, (_, byte) =>
    String.fromCharCode(visible(byte) ? byte : 256 + others++),
  );
  const bytes = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  const definition = {
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: bytes,
    post_processor: null,
    decoder: bytes,
    model: { type: 'BPE', vocab: Object.fromEntries(characters.map((text, id) => [text, id])), merges: [] },
  };
  return new Map([['tokenizer.json', () => Buffer.from(JSON.stringify(definition))]]);
}

async function written(name: string, model: Model, floats: FloatType): Promise<string> {
  const path = join(scratch, `${name}-${floats}.gguf`);
  const { metadata, tensors } = ggufOf(model, { name, floats });
  await writeGguf(path, metadata, tensors);
  return path;
}

const valuesOf = async (model: Model, ids: number[][]) => (await logits(model, ids)).data as Float32Array;

describe('the tiny model of each architecture', () => {
  interface Case {
    readonly name: string;
    readonly model: Model;
    readonly path: string;
    readonly ids: number[][];
    readonly expected: Float32Array;
  }
  const cases = new Map<string, Case>();
  const answers = new Map<string, Answer>();
  beforeAll(async () => {
    for (const name of architectures) {
      const model = await openGolden(name);
      // Windows are not in what llama.cpp calls "llama".
      const length = Math.min(24, ...model.config.layers.map(({ window }) => window ?? 24));
      const ids = expectedOf(name).ids.map((row) => row.slice(0, length));
      const path = await written(name, { ...model, files: byteTokenizer() }, 'F32');
      cases.set(name, { name, model, path, ids, expected: await valuesOf(model, ids) });
    }
    if (!hasLlama) return;
    const all = [...cases.values()];
    askLlama(all.map(({ path, ids }) => ({ path, ids, texts: ['a b'] }))).forEach((answer, i) =>
      answers.set(all[i]!.name, answer),
    );
  });

  it.each(architectures)('%s is the same after it was written and read', async (name) => {
    const { model, path, ids, expected } = cases.get(name)!;
    const again = modelFromGguf(openGguf(path), name);
    expect(maxDifference(await valuesOf(again, ids), expected)).toBeLessThan(1e-5);
    expect([...again.matrices.keys()].sort()).toEqual([...model.matrices.keys()].sort());
  });

  it.skipIf(!hasLlama).each(architectures)(`%s has the same logits in llama.cpp${missing}`, (name) => {
    const { logits, tokens } = answers.get(name)!;
    expect(tokens).toEqual([[97, 32, 98]]);
    // Its cache of keys and values is in float16; the logits reach 3.5.
    expect(maxDifference(logits, cases.get(name)!.expected)).toBeLessThan(0.01);
  });
});

const story =
  'Once upon a time, there was a little girl named Lily. It’s 2024!\n\n  She said: "Привет, 世界 🙂"';
const inputs = '../shared/models/ggml-vocab/ggml-vocab-gpt-2.gguf.inp';
const texts = existsSync(inputs) ? readFileSync(inputs, 'utf8').split('\n__ggml_vocab_test__\n') : [];

describe.skipIf(!hasLlama)(`real models in llama.cpp${missing}`, () => {
  const models = [
    ['pebble', 'byte-level', async () => loadModel(await openCheckpoint(shipped.folder))] as const,
    ...(hasStories ? [['stories260K', 'SentencePiece', openStories] as const] : []),
  ];
  // Of logits that reach 20: what the weights' type and the float16 cache make of them.
  const tolerances = { F32: 0.03, F16: 0.05, BF16: 0.5 };

  it.each(models)('%s, its %s tokenizer, in every float type', async (name, _kind, open) => {
    const model = await open();
    const tokenizer = loadTokenizer(model.files);
    const ids = [Array.from(tokenizer.encode(story, { bos: true }))];
    const expected = await valuesOf(model, ids);
    const types = Object.keys(tolerances) as FloatType[];
    const paths = await Promise.all(types.map((floats) => written(name, model, floats)));
    const answers = askLlama(paths.map((path) => ({ path, ids, texts: [story, ...texts] })));
    for (const [i, floats] of types.entries()) {
      const { logits, tokens } = answers[i]!;
      expect(maxDifference(logits, expected), floats).toBeLessThan(tolerances[floats]);
      const again = loadTokenizer(modelFromGguf(openGguf(paths[i]!), name).files);
      for (const [j, text] of [story, ...texts].entries()) {
        const ours = Array.from(tokenizer.encode(text));
        expect(tokens[j], JSON.stringify(text)).toEqual(ours);
        expect(Array.from(again.encode(text)), JSON.stringify(text)).toEqual(ours);
      }
      expect(again.encode(story, { bos: true })).toEqual(tokenizer.encode(story, { bos: true }));
      expect(again.decode(again.encode(story))).toBe(story);
    }
  });
});
