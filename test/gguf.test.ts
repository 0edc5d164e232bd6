/** GGUF files of ours read back, and in llama.cpp, by the product's own verification. */

import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ExitCode } from '../src/base/errors.ts';
import { blocksOf } from '../src/encodings/blocks/index.ts';
import { verifyGguf } from '../src/export/gguf.ts';
import type { Llama } from '../src/export/llama/find.ts';
import { greedyLlama } from '../src/export/llama/greedy.ts';
import { askLlama, LlamaFailure } from '../src/export/llama/process.ts';
import { measureLlamaSpeed } from '../src/export/llama/speed.ts';
import { verifyLlama } from '../src/export/llama/verify.ts';
import { openCheckpoint } from '../src/io/checkpoint.ts';
import { openGguf } from '../src/io/gguf/read.ts';
import { writeGguf } from '../src/io/gguf/write.ts';
import { ggufFamilies } from '../src/models/gguf-names.ts';
import { inHalves } from '../src/models/gguf-rows.ts';
import { modelFromGguf } from '../src/models/gguf.ts';
import type { FloatType, GgufContents } from '../src/models/gguf-write.ts';
import { ggufOf } from '../src/models/gguf-write.ts';
import { loadModel } from '../src/models/index.ts';
import type { LayerPlan, Model } from '../src/models/model.ts';
import { shipped } from '../src/open.ts';
import { loadTokenizer } from '../src/tokenizer/tokenizer.ts';
import { hasLlama, openLlama } from './engines/llama/llama.ts';
import type { Golden } from './engines/models.ts';
import {
  architectures,
  expectedOf,
  modelTypeOf,
  hasStories,
  openGolden,
  openStories,
  quantized,
  byteTokenizer,
} from './engines/models.ts';
import { writeShortPebble } from './models/checkpoint.ts';

const missing = hasLlama ? '' : ' (skipped: run node test/engines/install.js)';

let scratch: string;
let llama: Llama;
beforeAll(async () => {
  if (hasLlama) llama = await openLlama();
  scratch = mkdtempSync(join(tmpdir(), 'lapidary-gguf-'));
  await writeShortPebble(join(scratch, 'short'));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

async function written(
  name: string,
  model: Model,
  floats: FloatType = 'F32',
  change: (contents: GgufContents) => GgufContents = (contents) => contents,
): Promise<string> {
  const path = join(scratch, `${name}-${floats}.gguf`);
  const { metadata, tensors } = change(ggufOf(model, { name, floats }));
  await writeGguf(path, metadata, tensors);
  return path;
}

// The machine may have other work: threads of llama.cpp wait for each other by turning.
const threads = 1;

/** As llama.cpp takes for granted that layers are, where a tiny model has an odd value. */
const asGranted: Readonly<Record<string, (plan: LayerPlan, layer: number) => LayerPlan>> = {
  gemma2: (plan) => ({ ...plan, scale: undefined }),
  gemma3_text: (plan) => ({ ...plan, scale: undefined, window: 8, rope: { theta: 100 } }),
  smollm3: (plan, layer) => ({ ...plan, rope: (layer + 1) % 4 === 0 ? undefined : { theta: 10000 } }),
};

async function tiny(name: Golden): Promise<{ readonly model: Model; readonly ids: number[] }> {
  const own = await openGolden(name);
  const layers = own.config.layers.map((plan, layer) => asGranted[name]?.(plan, layer) ?? plan);
  const model = { ...own, config: { ...own.config, layers } };
  // Windows are not in what llama.cpp calls "llama".
  const windowless = ['mistral', 'mixtral'].includes(model.config.modelType);
  const length = Math.min(24, ...layers.map(({ window = 24 }) => (windowless ? window : 24)));
  return { model: { ...model, files: byteTokenizer() }, ids: expectedOf(name).ids[0]!.slice(0, length) };
}

/** Those that llama.cpp is given. Of `qwen3_moe-single` it would take each layer for a mixture. */
const given = architectures.filter(
  (name) =>
    name !== 'qwen3_moe-single' && ggufFamilies.some(({ modelType }) => modelType === modelTypeOf(name)),
);

describe.each(given)('the tiny %s', (name) => {
  it('is the same after it was written and read', async () => {
    const { model, ids } = await tiny(name);
    const path = await written(name, model);
    expect((await verifyGguf(path, model, ids)).worst).toBeLessThan(1e-5);
    const again = modelFromGguf(openGguf(path), name);
    expect([...again.matrices.keys()].sort()).toEqual([...model.matrices.keys()].sort());
  });

  it.skipIf(!hasLlama)(`has the same logits in llama.cpp${missing}`, async () => {
    const { model, ids } = await tiny(name);
    const found = await verifyLlama(llama, await written(name, model), model, ids, { threads });
    // Its cache of keys and values is in float16: a token may be sent to another expert that scores as well.
    expect(found.typical).toBeLessThan(0.005);
    if (!model.config.layers[0]!.experts) expect(found.worst).toBeLessThan(0.005);
    expect(found.engine).toMatch(/^llama\.cpp \S+ \(node-llama-cpp \d+\.\d+\.\d+\)$/);
  });
});

describe('what llama.cpp writes', () => {
  it.skipIf(!hasLlama)(`is its most likely token each time, up to an end${missing}`, async () => {
    const model = await shortPebble();
    const path = await written('greedy', model, 'F32');
    const prompts = [idsOf(model), idsOf(model).slice(0, 5)];
    const ask = (ends: readonly number[]) => greedyLlama(llama, path, prompts, { tokens: 12, ends, threads });
    const found = await ask([]);
    expect(found.map(({ length }) => length)).toEqual([12, 12]);
    const sequences = found.map((ids, index) => [...prompts[index]!, ...ids]);
    const all = await askLlama(llama.entry, 'logits', { path, sequences }, { threads });
    for (const [index, { length }] of prompts.entries()) {
      const rows = all[index]!.length / sequences[index]!.length;
      for (const [at, id] of found[index]!.entries()) {
        const logits = all[index]!.subarray((length - 1 + at) * rows, (length + at) * rows);
        expect(logits[id]).toBeGreaterThan(Math.max(...logits) - 0.01);
      }
    }
    const end = found[0]![7]!;
    const [ended] = await ask([end]);
    expect(ended).toEqual(found[0]!.slice(0, found[0]!.indexOf(end)));
  });
});

const pebble = async () => loadModel(await openCheckpoint(shipped.folder));
/** Where rows as wide as blocks matter, and no depth. */
const shortPebble = async () => loadModel(await openCheckpoint(join(scratch, 'short')));
const story =
  'Once upon a time, there was a little girl named Lily. It’s 2024!\n\n  She said: "Привет, 世界 🙂"';
const idsOf = (model: Model) => Array.from(loadTokenizer(model.files).encode(story, { bos: true }));

async function quantizedBlocks(model: Model, bits: 2 | 4 | 8, group: number, symmetric: boolean) {
  const { matrices, ...rest } = await quantized(model, bits, group, symmetric, 'short');
  return { ...rest, matrices: new Map([...matrices].map(([name, matrix]) => [name, blocksOf(matrix)])) };
}

describe('a file that is wrong', () => {
  const metadataWithout = (key: string) => (contents: GgufContents) => ({
    ...contents,
    metadata: new Map([...contents.metadata].filter(([name]) => name !== key)),
  });
  /** Rows of queries as transformers has them, not as llama.cpp does. */
  const unpaired =
    ({ config }: Model) =>
    ({ metadata, tensors }: GgufContents): GgufContents => ({
      metadata,
      tensors: new Map(
        [...tensors].map(([name, tensor]) => {
          const bytes = () => inHalves(tensor.bytes(), tensor.shape[0]!, config.layers[0]!.heads);
          return [name, name.endsWith('attn_q.weight') ? { ...tensor, bytes } : tensor];
        }),
      ),
    });

  it('in its rows is found by reading it again', async () => {
    const model = await shortPebble();
    const path = await written('unpaired', model, 'F32', unpaired(model));
    const failed = verifyGguf(path, model, idsOf(model));
    await expect(failed).rejects.toMatchObject({ exitCode: ExitCode.verification });
    await expect(failed).rejects.toThrow(
      /does not compute .*\n.*at most 0\.001 .*\n {2}found: \d\.\d+ of it/,
    );
  });

  it.skipIf(!hasLlama).each([
    ['floats', async (model: Model) => model],
    ['blocks', (model: Model) => quantizedBlocks(model, 8, 32, true)],
  ])(`in its rows is found by llama.cpp, in %s${missing}`, async (_, made) => {
    const model = await made(await shortPebble());
    const path = await written('unpaired', model, 'F32', unpaired(model));
    const failed = verifyLlama(llama, path, model, idsOf(model), { threads });
    await expect(failed).rejects.toMatchObject({ exitCode: ExitCode.verification });
    await expect(failed).rejects.toThrow(
      /does not compute .*\n.*at most (0\.\d+|1) .*\n {2}found: \d\.\d+ of it/,
    );
  });

  it.skipIf(!hasLlama).each([
    ['refuses', 'llama.attention.layer_norm_rms_epsilon', /found: .*key not found in model: llama\.att/],
    ['ends its process over', 'llama.attention.head_count', /found: its process ended with .*GGML_ASSERT/],
  ])(`that llama.cpp %s is refused with its words${missing}`, async (_, key, message) => {
    const model = await shortPebble();
    const path = await written('keyless', model, 'F32', metadataWithout(key));
    const failed = verifyLlama(llama, path, model, [1, 2, 3], { threads });
    await expect(failed).rejects.toMatchObject({ exitCode: ExitCode.verification });
    await expect(failed).rejects.toThrow(message);
  });
});

describe.skipIf(!hasLlama)(`the process of llama.cpp${missing}`, () => {
  let started = 0;
  const count = () => started++;
  beforeAll(() => subscribe('child_process', count));
  afterAll(() => unsubscribe('child_process', count));

  it('answers one question after another; another one does behind a refusal', async () => {
    const { model } = await tiny('llama');
    const path = await written('asked', model);
    const ask = (asked: string) =>
      askLlama(llama.entry, 'tokens', { path: asked, texts: ['a time'] }, { threads });
    const first = await ask(path);
    started = 0;
    expect(await ask(path)).toEqual(first);
    expect(started).toBe(0);
    await expect(ask(`${path}.missing`)).rejects.toThrow(LlamaFailure);
    expect(await ask(path)).toEqual(first);
    expect(started).toBe(1);
  });
});

describe.skipIf(!hasLlama)(`grouped integers as blocks in llama.cpp${missing}`, () => {
  it.each([
    { bits: 4, group: 64, symmetric: true, type: 'Q4_0' },
    { bits: 4, group: 32, symmetric: false, type: 'Q4_1' },
    { bits: 8, group: 32, symmetric: true, type: 'Q8_0' },
    { bits: 2, group: 256, symmetric: true, type: 'TQ2_0' },
  ] as const)('$bits bits, group $group, symmetric $symmetric as $type', async (choice) => {
    const { bits, group, symmetric, type } = choice;
    const model = await quantizedBlocks(await shortPebble(), bits, group, symmetric);
    expect(new Set([...model.matrices.values()].map(({ label }) => label))).toEqual(new Set([type]));
    const path = await written(type, model);
    expect((await verifyGguf(path, model, idsOf(model))).worst).toBeLessThan(1e-5);
    // Its activations are in eight bits.
    expect((await verifyLlama(llama, path, model, idsOf(model), { threads })).worst).toBeLessThan(0.15);
  });
});

const inputs = '../shared/models/ggml-vocab/ggml-vocab-gpt-2.gguf.inp';
const texts = existsSync(inputs) ? readFileSync(inputs, 'utf8').split('\n__ggml_vocab_test__\n') : [];

describe.skipIf(!hasLlama)(`real models in llama.cpp${missing}`, () => {
  const models = [
    ['pebble', 'byte-level', pebble] as const,
    ...(hasStories ? [['stories260K', 'SentencePiece', openStories] as const] : []),
  ];

  it.each(models)('%s in every float type', async (name, _kind, open) => {
    const model = await open();
    for (const [floats, most] of [
      ['F32', 0.005],
      ['F16', 0.01],
      ['BF16', 0.05],
    ] as const) {
      const path = await written(name, model, floats);
      const { worst } = await verifyLlama(llama, path, model, idsOf(model), { threads });
      expect(worst, floats).toBeLessThan(most);
    }
  });

  it.each(models)('%s has the same %s tokenizer', async (name, _kind, open) => {
    const model = await open();
    const tokenizer = loadTokenizer(model.files);
    const path = await written(name, model, 'F16');
    const again = loadTokenizer(modelFromGguf(openGguf(path), name).files);
    const asked = [story, ...texts];
    const tokens = await askLlama(llama.entry, 'tokens', { path, texts: asked });
    for (const [i, text] of asked.entries()) {
      const ours = Array.from(tokenizer.encode(text));
      expect(tokens[i], JSON.stringify(text)).toEqual(ours);
      expect(Array.from(again.encode(text)), JSON.stringify(text)).toEqual(ours);
    }
    expect(again.encode(story, { bos: true })).toEqual(tokenizer.encode(story, { bos: true }));
    expect(again.decode(again.encode(story))).toBe(story);
  });

  it('have a speed', async () => {
    const path = await written('short', await shortPebble(), 'F16');
    const speed = await measureLlamaSpeed(llama, path, { prompt: 16, tokens: 4, runs: 2, threads });
    expect(speed.prefillTokensPerSecond).toBeGreaterThan(0);
    expect(speed.decodeTokensPerSecond).toBeGreaterThan(0);
  });

  it('end at once when they are interrupted', async () => {
    const path = await written('short', await shortPebble(), 'F16');
    const controller = new AbortController();
    const question = { prompt: 64, tokens: 64, runs: 10_000, threads, signal: controller.signal };
    const running = measureLlamaSpeed(llama, path, question);
    const reason = new Error('enough');
    setTimeout(() => controller.abort(reason), 50);
    await expect(running).rejects.toBe(reason);
  });
});
