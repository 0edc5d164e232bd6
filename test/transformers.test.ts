/** What is written for transformers.js, loaded and run by transformers.js itself. */

import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ExportedFile, TransformersOptions } from '../src/export/transformers.ts';
import { exportTransformers, unknownToTransformers } from '../src/export/transformers.ts';
import { verifyExport } from '../src/export/verify.ts';
import { denseValues } from '../src/encodings/dense.ts';
import { writeText } from '../src/generate/generate.ts';
import { addExit } from '../src/models/exits.ts';
import type { Model } from '../src/models/model.ts';
import { logits } from '../src/models/runner.ts';
import { loadTokenizer } from '../src/tokenizer/tokenizer.ts';
import {
  architectures,
  expectedOf,
  hasStories,
  maxDifference,
  modelTypeOf,
  numerals,
  openGolden,
  openStories,
  quantized,
} from './engines/models.ts';
import type { CausalModel } from './engines/transformers.ts';
import { transformers } from './engines/transformers.ts';

const missing = transformers ? '' : ' (skipped: run node test/engines/install.js)';
const story = 'Once upon a time, there was a little girl named Lily. She loved to play outside in the park.';

let scratch: string;
let count = 0;
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), 'lapidary-transformers-'));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

interface Loaded {
  readonly folder: string;
  readonly file: ExportedFile;
  readonly engine: CausalModel;
}

/** Exports a model to a fresh folder and loads it there; the dtype comes from config.json. */
async function load(model: Model, options: TransformersOptions = {}): Promise<Loaded> {
  const folder = join(scratch, `model-${count++}`);
  const [file] = exportTransformers(model, folder, options);
  const engine = await transformers!.AutoModelForCausalLM.from_pretrained(folder);
  // A name that it does not know would load the default file in silence.
  expect(engine.sessions.model!.config.dtype).toBe(file.dtype);
  return { folder, file, engine };
}

function feeds(rows: readonly (readonly number[])[], mask = rows.map((row) => row.map(() => 1))) {
  const tensor = (values: readonly (readonly number[])[]) =>
    new transformers!.Tensor('int64', BigInt64Array.from(values.flat(), BigInt), [
      values.length,
      values[0].length,
    ]);
  return { input_ids: tensor(rows), attention_mask: tensor(mask) };
}

async function scores({ engine }: Loaded, rows: readonly (readonly number[])[], mask?: number[][]) {
  const result = await engine(feeds(rows, mask));
  expect(result.logits.type).toBe('float32');
  return result.logits.data as Float32Array;
}

async function greedy({ engine }: Loaded, prompt: readonly number[], tokens: number): Promise<number[]> {
  const ids = await engine.generate({ ...feeds([prompt]), max_new_tokens: tokens, do_sample: false });
  return Array.from(ids.data as BigInt64Array, Number).slice(prompt.length);
}

async function expectSame(
  loaded: Loaded,
  model: Model,
  ids: readonly (readonly number[])[],
  tolerance: number,
) {
  const inMemory = (await logits(model, ids)).data as Float32Array;
  expect(maxDifference(await scores(loaded, ids), inMemory)).toBeLessThan(tolerance);
  // Inputs rounded to eight bits may turn a near-tie: there our way with the same file is compared.
  const { folder, file } = loaded;
  const source = file.levels.includes(4) ? join(folder, file.path) : model;
  const ours = await writeText({ source, tokenizer: numerals }, ids[0].slice(0, 8).join(' '), {
    maxTokens: 12,
  });
  const theirs = await greedy(loaded, ids[0].slice(0, 8), 12);
  expect(theirs.slice(0, ours.ids.length)).toEqual(ours.ids);
}

describe.skipIf(!transformers)(`transformers.js${missing}`, () => {
  const isKnown = (name: string) => !unknownToTransformers.has(modelTypeOf(name));

  it.each(architectures.filter((name) => !isKnown(name)))('does not know %s', async (name) => {
    await expect(load(await openGolden(name))).rejects.toThrow(/Unsupported model type/);
  });

  describe.each(architectures.filter(isKnown))('%s', (name) => {
    it('in float32: logits of the original library within 1e-4, greedy ids as ours', async () => {
      const model = await openGolden(name);
      const expected = expectedOf(name);
      const loaded = await load(model);
      expect(loaded.file.path).toBe('onnx/model.onnx');
      expect(maxDifference(await scores(loaded, expected.ids), expected.logits)).toBeLessThan(1e-4);
      await expectSame(loaded, model, expected.ids, 1e-4);
      await loaded.engine.dispose();
    });

    it('in four bits: logits and greedy ids of the model in memory', async () => {
      const model = await quantized(await openGolden(name), 4);
      const loaded = await load(model);
      expect(loaded.file.path).toBe('onnx/model_q4.onnx');
      await expectSame(loaded, model, expectedOf(name).ids, 1e-4);
      await loaded.engine.dispose();
    });

    it('a batch padded on the left: every sequence as it is alone', async () => {
      const model = await openGolden(name);
      const loaded = await load(model);
      const { ids } = expectedOf(name);
      const [long, short] = [ids[0].slice(0, 12), ids[1].slice(0, 7)];
      const padding = new Array(long.length - short.length).fill(0);
      const mask = [long.map(() => 1), [...padding, ...short.map(() => 1)]];
      const found = await scores(loaded, [long, [...padding, ...short]], mask);
      const vocabulary = model.config.vocabulary;
      const alone = await scores(loaded, [short]);
      const inBatch = found.subarray((long.length + padding.length) * vocabulary);
      expect(maxDifference(inBatch, alone)).toBeLessThan(1e-4);
      expect(
        maxDifference(found.subarray(0, long.length * vocabulary), await scores(loaded, [long])),
      ).toBeLessThan(1e-4);
      await loaded.engine.dispose();
    });
  });

  it.each([
    { bits: 2, group: 16, symmetric: false, file: 'onnx/model_q2.onnx' },
    { bits: 3, group: 32, symmetric: true, file: 'onnx/model_q4.onnx' },
    { bits: 4, group: 16, symmetric: false, file: 'onnx/model_q4.onnx' },
    { bits: 8, group: -1, symmetric: true, file: 'onnx/model_quantized.onnx' },
  ] as const)(
    '$bits bits in groups of $group are found as $file',
    async ({ bits, group, symmetric, file }) => {
      const model = await quantized(await openGolden('qwen2'), bits, group, symmetric);
      const loaded = await load(model);
      expect(loaded.file.path).toBe(file);
      await expectSame(loaded, model, expectedOf('qwen2').ids, bits === 8 ? 0.2 : 1e-4);
      await loaded.engine.dispose();
    },
  );

  it.each([
    { bits: undefined, file: 'onnx/model_fp16.onnx' },
    { bits: 4, file: 'onnx/model_q4f16.onnx' },
    { bits: 2, file: 'onnx/model_q2f16.onnx' },
  ] as const)('float16 activations: $file', async ({ bits, file }) => {
    const original = await openGolden('qwen3');
    const model = bits ? await quantized(original, bits) : original;
    const loaded = await load(model, { files: [{ activations: 'float16' }] });
    expect(loaded.file.path).toBe(file);
    const { ids } = expectedOf('qwen3');
    const inMemory = (await logits(model, ids)).data as Float32Array;
    expect(maxDifference(await scores(loaded, ids), inMemory)).toBeLessThan(bits === 2 ? 0.2 : 0.05);
    expect(await greedy(loaded, ids[0].slice(0, 8), 4)).toHaveLength(4);
    await loaded.engine.dispose();
  });

  it.each([
    { name: 'llama', bits: undefined },
    { name: 'llama-tied-llama3rope', bits: undefined },
    { name: 'gpt2', bits: undefined },
    { name: 'qwen3', bits: 4 },
    { name: 'llama-tied-llama3rope', bits: 4 },
  ] as const)(
    'exits of $name, in $bits bits: outputs of their own beside the same logits and text',
    async ({ name, bits }) => {
      const golden = await openGolden(name);
      const [{ matrix }] = golden.architecture.around(golden.config).norm.readers;
      const plain = bits ? await quantized(golden, bits) : golden;
      // One shares the last head's matrix, the other has its own.
      const model = addExit(addExit(plain, 0), 1, { ...plain.matrices.get(matrix)! });
      const loaded = await load(model);
      const { ids } = expectedOf(name);
      await expectSame(loaded, model, ids, 1e-4);
      const without = await load(plain);
      expect(await greedy(loaded, ids[0].slice(0, 8), 12)).toEqual(
        await greedy(without, ids[0].slice(0, 8), 12),
      );
      const outputs = await loaded.engine(feeds(ids));
      expect(Object.keys(outputs)[0]).toBe('logits');
      for (const exit of [0, 1]) {
        const found = outputs[`exits.${exit}.logits`];
        expect([found.type, found.dims]).toEqual(['float32', outputs.logits.dims]);
        const expected = (await logits(model, ids, { exit })).data as Float32Array;
        expect(maxDifference(found.data as Float32Array, expected)).toBeLessThan(1e-4);
      }
      const path = join(loaded.folder, loaded.file.path);
      const { spread, maxDifference: apart } = await verifyExport(path, model, ids[0], loaded.file.options);
      expect(apart).toBeLessThan(1e-4 * spread);
      const { shape, dense } = plain.matrices.get(matrix)!;
      const reversed = denseValues(dense().reverse(), ...shape);
      const other = addExit(addExit(plain, 0), 1, reversed);
      await expect(verifyExport(path, other, ids[0], loaded.file.options)).rejects.toThrow(
        'does not compute what the model does',
      );
      const config = JSON.parse(readFileSync(join(loaded.folder, 'config.json'), 'utf8'));
      expect(config.early_exit_layers).toEqual([0, 1]);
      await loaded.engine.dispose();
      await without.engine.dispose();
    },
  );

  it('external data beside the model, announced in config.json', async () => {
    const model = await openGolden('llama');
    const loaded = await load(model, { externalThreshold: 1 });
    expect(existsSync(join(loaded.folder, 'onnx/model.onnx_data'))).toBe(true);
    const config = JSON.parse(readFileSync(join(loaded.folder, 'config.json'), 'utf8'));
    expect(config['transformers.js_config'].use_external_data_format).toEqual({ 'model.onnx': 1 });
    await expectSame(loaded, model, expectedOf('llama').ids, 1e-4);
    await loaded.engine.dispose();
  });

  it('several files in one folder, the first by default', async () => {
    const model = await openGolden('llama');
    const folder = join(scratch, 'several');
    exportTransformers(model, folder, { files: [{ activations: 'float16' }, {}] });
    for (const [dtype, tolerance] of [
      [undefined, 0.05],
      ['fp32', 1e-4],
    ] as const) {
      const engine = await transformers!.AutoModelForCausalLM.from_pretrained(folder, dtype ? { dtype } : {});
      const { ids, logits } = expectedOf('llama');
      expect(maxDifference((await engine(feeds(ids))).logits.data as Float32Array, logits)).toBeLessThan(
        tolerance,
      );
      await engine.dispose();
    }
  });

  describe.skipIf(!hasStories)(
    `stories260K${hasStories ? '' : ' (skipped: not in ../shared/models)'}`,
    () => {
      it('tells its story, from the prompt as text', async () => {
        const model = await openStories();
        const { folder, engine } = await load(model);
        await engine.dispose();
        const write = await transformers!.pipeline('text-generation', folder);
        const [{ generated_text: theirs }] = await write('Once upon a time', {
          max_new_tokens: 60,
          do_sample: false,
        });
        expect(theirs.startsWith(story)).toBe(true);
        const ours = await writeText(
          { source: model, tokenizer: loadTokenizer(model.files) },
          'Once upon a time',
          { maxTokens: 60 },
        );
        expect(`Once upon a time${ours.text}`).toBe(theirs);
      });

      it('in four bits: the same text from the written file, from memory and from transformers.js', async () => {
        const model = await quantized(await openStories(), 4);
        const { folder, file, engine } = await load(model);
        await engine.dispose();
        const tokenizer = loadTokenizer(model.files);
        const ids = tokenizer.encode(story, { bos: true });
        const { maxDifference, spread } = await verifyExport(
          join(folder, file.path),
          model,
          ids,
          file.options,
        );
        expect(maxDifference).toBeLessThan(1e-4 * spread);
        const write = await transformers!.pipeline('text-generation', folder);
        const [{ generated_text: theirs }] = await write('One day', { max_new_tokens: 40, do_sample: false });
        for (const source of [model, join(folder, file.path)]) {
          const ours = await writeText({ source, tokenizer }, 'One day', { maxTokens: 40 });
          expect(`One day${ours.text}`).toBe(theirs);
        }
      });
    },
  );
});
