/** Layers with something else in the place of attention: what config.json says, what the written file keeps, what compression makes of them. */

import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { selector } from '../src/calibrate/select.ts';
import { targetsOf } from '../src/calibrate/targets.ts';
import { compress } from '../src/compress.ts';
import { openFile } from '../src/evaluate/file.ts';
import { checkFused } from '../src/export/attention.ts';
import { measureCache } from '../src/export/cache.ts';
import { exportGraph } from '../src/export/graph.ts';
import { verifyExport } from '../src/export/verify.ts';
import { exportTransformers } from '../src/export/transformers.ts';
import { genaiConfig } from '../src/export/genai.ts';
import { checkHeld } from '../src/formats/holds.ts';
import { openGenerator } from '../src/generate/generator.ts';
import { families } from '../src/methods/index.ts';
import { quarot } from '../src/methods/quantize/quarot.ts';
import { findArchitecture } from '../src/models/index.ts';
import { keepLayers } from '../src/models/layers.ts';
import type { Model } from '../src/models/model.ts';
import { logits } from '../src/models/runner.ts';
import { openForCompression } from '../src/open.ts';
import { checkRecipe } from '../src/recipe/recipe.ts';
import { applyRecipe } from '../src/run/apply.ts';
import { contextOf } from '../src/run/context.ts';
import { readTexts } from '../src/run/texts.ts';
import { fewSteps, stepsOf } from './conformance/steps.ts';
import {
  byteTokenizer,
  expectedOf,
  maxDifference,
  numerals,
  openGolden,
  quantized,
} from './engines/models.ts';

const folder = mkdtempSync(join(tmpdir(), 'lapidary-mixers-'));
afterAll(() => rmSync(folder, { recursive: true }));

const names = ['lfm2', 'lfm2-biased'] as const;

const memory = async (model: Model, ids: ArrayLike<number>) =>
  (await logits(model, [ids], { threads: 1 })).data as Float32Array;

/** Logits of the written file, the tokens fed in pieces of these sizes. */
async function inPieces(source: Parameters<typeof openFile>[0], ids: Int32Array, sizes: readonly number[]) {
  const runner = await openFile(source, { threads: 1 });
  const all: number[] = [];
  let [past, cache] = [0, runner.empty()];
  for (const size of sizes) {
    const step = await runner.step(ids.subarray(past, past + size), past, cache, 0);
    all.push(...(step.logits.data as Float32Array));
    [past, cache] = [past + size, step.cache];
  }
  await runner.close();
  return all;
}

describe.each(names)('the written file of %s', (name) => {
  it('computes the same at once, in pieces and token by token', async () => {
    const model = await openGolden(name);
    const { ids, logits: expected } = expectedOf(name);
    const tokens = Int32Array.from(ids[0]!);
    const own = expected.subarray(0, expected.length / 2);
    for (const sizes of [[24], [1, 2, 7, 3, 1, 10], new Array<number>(24).fill(1)])
      expect(maxDifference(await inPieces(exportGraph(model), tokens, sizes), own)).toBeLessThan(1e-4);
  });

  it('is verified, in float16 and in four bits, too', async () => {
    for (const [index, [model, activations]] of [
      [await openGolden(name), 'float32'],
      [await openGolden(name), 'float16'],
      [await quantized(await openGolden(name), 4, 16), 'float32'],
    ].entries() as ArrayIterator<[number, [Model, 'float32' | 'float16']]>) {
      const out = join(folder, `${name}-${index}`);
      const [file] = exportTransformers(model, out, { files: [{ activations }] });
      const found = await verifyExport(join(out, file!.path), model, expectedOf(name).ids[0]!, file!.options);
      expect(found.worst).toBeLessThan(found.tolerance);
    }
  });

  it('goes on from a conversation where a prompt has all of it, and else computes anew', async () => {
    const golden = await openGolden(name);
    const opened = {
      name,
      model: { ...golden, config: { ...golden.config, eos: [] } },
      tokenizer: numerals,
      context: golden.config.context,
      checkpoint: { tensors: new Map(), identity: () => name },
    };
    const asked = { maxTokens: 5 };
    const fresh = async (prompt: string) => {
      const generator = await openGenerator(opened, { threads: 1 });
      const { ids } = await generator.generate(prompt, asked);
      await generator.close();
      return ids;
    };
    const generator = await openGenerator(opened, { threads: 1 });
    const first = await generator.generate('5 9 77 30', asked);
    const longer = `5 9 77 30 ${first.text} 40 41`;
    const second = await generator.generate(longer, asked);
    expect(second.cachedTokens).toBe(4 + first.ids.length - 1);
    expect(second.ids).toEqual(await fresh(longer));
    // A state cannot be taken back to where a prompt goes another way.
    const third = await generator.generate('5 9 77 31 2', asked);
    expect(third.cachedTokens).toBe(0);
    expect(third.ids).toEqual(await fresh('5 9 77 31 2'));
    await generator.close();
  });

  it('has settings for onnxruntime-genai that name inputs and outputs of the graph', async () => {
    const model = await openGolden(name);
    const { decoder } = genaiConfig(model, 'onnx/model.onnx').model as {
      decoder: Record<'inputs' | 'outputs', Record<string, string>> & { layer_types: string[] };
    };
    const graph = exportGraph(model);
    for (const side of ['inputs', 'outputs'] as const) {
      const there = new Set(graph[side].map((each) => each.name));
      for (const pattern of Object.values(decoder[side]))
        expect(decoder.layer_types.some((_, layer) => there.has(pattern.replace('%d', `${layer}`)))).toBe(
          true,
        );
    }
  });

  it('is written for engines of ONNX alone, for now', async () => {
    const model = await openGolden(name);
    checkHeld('onnx', model, 'ONNX');
    for (const format of ['gguf', 'compressed-tensors', 'gptq', 'awq', 'mlx'] as const)
      expect(() => checkHeld(format, model, format)).toThrow(
        /layers\.0[\s\S]*in the place of attention[\s\S]*not written for[\s\S]*--format onnx/,
      );
  });
});

describe('a cache in integers', () => {
  it('holds keys and values so, and leaves the states of convolutions in floats', async () => {
    const model = await openGolden('lfm2');
    const [ids] = expectedOf('lfm2').ids;
    const tokens = Int32Array.from(ids!);
    const cache = await measureCache(model, [tokens], 8, { threads: 1 });
    const graph = exportGraph(model, { cache });
    const types = Object.fromEntries(graph.inputs.map((input) => [input.name, input.dtype]));
    expect(types).toMatchObject({ 'past_conv.0': 'float32', 'past_key_values.2.key': 'int8' });
    const found = await inPieces(graph, tokens, [16, ...new Array<number>(8).fill(1)]);
    const difference = maxDifference(found, await memory(model, tokens));
    expect(difference).toBeGreaterThan(1e-5);
    expect(difference).toBeLessThan(0.1);
  });

  it('is refused where heads are of a size that the fused attention does not take', async () => {
    const { config } = await openGolden('lfm2-biased');
    expect(() => checkFused(config)).toThrow(/layer 1[\s\S]*multiple of 16[\s\S]*heads of 12/);
  });
});

describe('config.json of LFM2', () => {
  const sizes = {
    model_type: 'lfm2',
    vocab_size: 100,
    hidden_size: 64,
    num_hidden_layers: 4,
    num_attention_heads: 4,
    num_key_value_heads: 2,
  };
  const configure = (json: Readonly<Record<string, unknown>>) =>
    findArchitecture(sizes).configure({ ...sizes, intermediate_size: 96, ...json });

  it('says which layers have convolutions, in the words of all versions', () => {
    const widths = (json: Readonly<Record<string, unknown>>) =>
      configure(json).layers.map(({ convolution, heads }) => convolution?.width ?? -heads);
    const types = ['conv', 'full_attention', 'conv', 'conv'];
    expect(widths({ layer_types: types })).toEqual([3, -4, 3, 3]);
    expect(widths({ full_attn_idxs: [1], conv_L_cache: 5 })).toEqual([5, -4, 5, 5]);
    expect(configure({ full_attn_idxs: [1] }).json.layer_types).toEqual(types);
    expect(() => configure({ layer_types: types.slice(1) })).toThrow(/layer_types[\s\S]*a list of 4/);
    expect(() => configure({ layer_types: [...types.slice(1), 'mamba'] })).toThrow(/layer_types/);
    expect(() => configure({ full_attn_idxs: [1], conv_L_cache: 0 })).toThrow(/conv_L_cache/);
  });

  it('says how wide feed-forwards are, by itself or as what it is made of', () => {
    const width = (json: Readonly<Record<string, unknown>>) => configure(json).layers[0]!.intermediate;
    expect(width({ block_auto_adjust_ff_dim: false })).toBe(96);
    expect(width({ block_ff_dim: 12288 })).toBe(8192);
    expect(width({ intermediate_size: 6656, block_ffn_dim_multiplier: 1.5 })).toBe(6656);
    expect(width({ intermediate_size: 600, block_ffn_dim_multiplier: null })).toBe(400);
    expect(configure({ tie_embedding: false }).tiedHead).toBe(false);
  });

  it('is true of what becomes of the model', async () => {
    const model = await openGolden('lfm2');
    const again = (json: Readonly<Record<string, unknown>>) => model.architecture.configure(json).layers;
    expect(again(model.config.json)).toEqual(model.config.layers);
    const fewer = keepLayers(model, [2, 3]);
    expect(again(fewer.config.json)).toEqual(fewer.config.layers);
    expect(fewer.config.json).toMatchObject({ layer_types: ['full_attention', 'conv'], full_attn_idxs: [0] });
    const [ids] = expectedOf('lfm2').ids;
    const found = await inPieces(exportGraph(fewer), Int32Array.from(ids!), [20, 1, 1, 1, 1]);
    expect(maxDifference(found, await memory(fewer, ids!))).toBeLessThan(1e-4);
  });
});

describe('compression', () => {
  const methods = families.flatMap((family) =>
    family.methods.map((method) => [method.name, { family, method }] as const),
  );
  const source = join(folder, 'tiny');
  cpSync('test/models/lfm2', source, { recursive: true });
  writeFileSync(join(source, 'tokenizer.json'), byteTokenizer().get('tokenizer.json')!());
  const path = join(folder, 'text.txt');
  writeFileSync(
    path,
    Array.from({ length: 12 }, (_, i) => `There were ${i} stones by the sea.`).join('\n\n'),
  );
  const texts = {
    calibration: { data: path, separator: '\n\n', sequences: 4, length: 24 },
    evaluation: { data: path, separator: '\n\n', sequences: 2, length: 24 },
  };

  it('takes what stands in the place of attention by the name of attention', async () => {
    const model = await openGolden('lfm2');
    const named = targetsOf(model).filter(selector('attention', model));
    expect(named.map(({ name }) => name.replace('model.layers.', ''))).toEqual([
      ...['0', '1'].flatMap((layer) => [`${layer}.conv.in_proj`, `${layer}.conv.out_proj`]),
      ...['q_proj', 'k_proj', 'v_proj', 'out_proj'].map((part) => `2.self_attn.${part}`),
      '3.conv.in_proj',
      '3.conv.out_proj',
    ]);
  });

  it.each(names)('by rotation computes what it did: %s', async (name) => {
    const model = await openGolden(name);
    const turned = await quarot.rewrite(model, {}, contextOf(model, [], { seed: 3, threads: 1 }));
    const [ids] = expectedOf(name).ids;
    expect(maxDifference(await memory(turned, ids!), await memory(model, ids!))).toBeLessThan(1e-4);
  });

  it.each(methods)('by %s', async (_, { family, method }) => {
    const original = await openForCompression(source, {});
    const steps = stepsOf(family, method, fewSteps(method));
    const recipe = checkRecipe({ model: source, steps, ...texts, export: { format: 'onnx' } }, 'mixers');
    const given = await readTexts(recipe, original, () => {});
    const { model: after } = await applyRecipe(original.model, recipe, given, { threads: 1 });
    for (const { dense } of new Set(after.matrices.values()))
      expect(dense().every(Number.isFinite)).toBe(true);
    const kernel = 'model.layers.0.conv.conv.weight';
    expect(after.vectors.get(kernel)!.shape).toEqual([48, 1, 3]);
    const [ids] = expectedOf('lfm2').ids;
    expect((await memory(after, ids!)).every(Number.isFinite)).toBe(true);
  });

  it('is written, verified, and opened again', async () => {
    const out = join(folder, 'out');
    const report = await compress({ model: source, out, ...texts, threads: 1, speed: true });
    for (const { worst, tolerance } of report.checks) expect(worst).toBeLessThanOrEqual(tolerance);
  });
});
