/** GGUF files of ours in llama.cpp, and read back. */

import { mkdtempSync, rmSync } from 'node:fs';
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
import { askLlama, hasLlama } from './engines/llama/llama.ts';
import {
  architectures,
  expectedOf,
  hasStories,
  maxDifference,
  openGolden,
  openStories,
} from './engines/models.ts';

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

async function written(model: Model, floats: FloatType): Promise<string> {
  const path = join(scratch, `${model.config.modelType}-${floats}.gguf`);
  const { metadata, tensors } = ggufOf(model, { name: 'test', floats });
  await writeGguf(path, metadata, tensors);
  return path;
}

const valuesOf = async (model: Model, ids: number[][]) => (await logits(model, ids)).data as Float32Array;

describe.each(architectures)('%s', (name) => {
  it('is the same after it was written and read', async () => {
    const model = await openGolden(name);
    // Windows are not in what llama.cpp calls "llama".
    const length = Math.min(24, ...model.config.layers.map(({ window }) => window ?? 24));
    const ids = expectedOf(name).ids.map((row) => row.slice(0, length));
    const path = await written({ ...model, files: byteTokenizer() }, 'F32');
    const again = modelFromGguf(openGguf(path), 'test');
    expect(maxDifference(await valuesOf(again, ids), await valuesOf(model, ids))).toBeLessThan(1e-5);
    expect([...again.matrices.keys()].sort()).toEqual([...model.matrices.keys()].sort());
  });

  it.skipIf(!hasLlama)('has the same logits in llama.cpp', async () => {
    const model = await openGolden(name);
    const length = Math.min(24, ...model.config.layers.map(({ window }) => window ?? 24));
    const ids = expectedOf(name).ids.map((row) => row.slice(0, length));
    const answer = askLlama(await written({ ...model, files: byteTokenizer() }, 'F32'), { ids, text: 'a b' });
    expect([...answer.tokens]).toEqual([97, 32, 98]);
    // Its cache of keys and values is in float16; the logits reach 3.5.
    expect(maxDifference(answer.logits, await valuesOf(model, ids))).toBeLessThan(0.01);
  });
});

const text =
  'Once upon a time, there was a little girl named Lily. It’s 2024!\n\n  She said: "Привет, 世界 🙂"';

describe.skipIf(!hasLlama)(
  `llama.cpp${hasLlama ? '' : ' (skipped: run node test/engines/install.js)'}`,
  () => {
    it.each([
      ['pebble', 'byte-level', async () => loadModel(await openCheckpoint(shipped.folder))],
      ...(hasStories ? [['stories260K', 'SentencePiece', openStories] as const] : []),
    ] as const)('reads %s and its %s tokenizer, in every float type', async (_name, _kind, open) => {
      const model = await open();
      const tokenizer = loadTokenizer(model.files);
      const ids = [Array.from(tokenizer.encode(text, { bos: true }))];
      const expected = await valuesOf(model, ids);
      // Of logits that reach 20: what the weights' type and the float16 cache make of them.
      for (const [floats, tolerance] of [
        ['F32', 0.03],
        ['F16', 0.05],
        ['BF16', 0.5],
      ] as const) {
        const path = await written(model, floats);
        const answer = askLlama(path, { ids, text });
        expect([...answer.tokens]).toEqual(Array.from(tokenizer.encode(text)));
        expect(maxDifference(answer.logits, expected), floats).toBeLessThan(tolerance);
        const again = loadTokenizer(modelFromGguf(openGguf(path), 'test').files);
        expect(again.encode(text, { bos: true })).toEqual(tokenizer.encode(text, { bos: true }));
        expect(again.decode(again.encode(text))).toBe(text);
      }
    });
  },
);
