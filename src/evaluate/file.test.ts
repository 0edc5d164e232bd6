import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { random } from '../base/random.ts';
import { walk } from '../calibrate/walk.ts';
import { exportTransformers } from '../export/transformers.ts';
import { denseValues } from '../encodings/dense.ts';
import type { Encoding } from '../encodings/encoding.ts';
import { openCheckpoint } from '../io/checkpoint.ts';
import type { Matrix } from '../contract/statistic.ts';
import { binary, roundToSigns } from '../methods/quantize/binary.ts';
import { roundToLevels } from '../rounding/levels.ts';
import { rtn } from '../methods/quantize/rtn.ts';
import { w8a8 } from '../methods/quantize/w8a8.ts';
import { addExit } from '../models/exits.ts';
import { loadModel } from '../models/index.ts';
import type { Model } from '../models/model.ts';
import { bitsPerWeight, multiplyAdds, parameters } from '../models/size.ts';
import { modelScorer } from './blocks.ts';
import { readOnnx } from '../io/onnx/reader.ts';
import { fileCost } from './cost.ts';
import { storedWeights } from './onnx-weights.ts';
import { evaluate } from './evaluate.ts';
import { fileScorer, openFile } from './file.ts';
import type { Scorer } from './scorer.ts';
import { measureSpeed } from './speed.ts';

const folder = mkdtempSync(join(tmpdir(), 'lapidary-file-'));
afterAll(() => rmSync(folder, { recursive: true }));

const open = async (name: string) => loadModel(await openCheckpoint(`test/models/${name}`));
let count = 0;
function written(model: Model, activations: 'float32' | 'float16' = 'float32'): string {
  const out = join(folder, String(count++));
  const [file] = exportTransformers(model, out, { files: [{ activations }] });
  return join(out, file!.path);
}
async function quantized(model: Model, bits: number, symmetric: boolean, group = 16): Promise<Model> {
  const options = rtn.options.parse({ bits, group, symmetric });
  const assign = ({ place }: { place: string }) =>
    place === 'positions' ? undefined : { method: rtn, options };
  return (await walk(model, [], { assign })).model;
}

const draws = random(5);
const sequences = [40, 2, 33].map((length) => Int32Array.from({ length }, () => draws.integer(256)));
const characters = sequences.map(({ length }) => length - 1);

/** Logits of every chunk, one after another. */
async function all(scorer: Scorer): Promise<Float32Array> {
  const values: number[] = [];
  for await (const { logits } of scorer.score(sequences)) values.push(...(logits.data as Float32Array));
  await scorer.close();
  return Float32Array.from(values);
}
function difference(a: Float32Array, b: Float32Array): number {
  expect(a.length).toBe(b.length);
  return a.reduce((most, value, index) => Math.max(most, Math.abs(value - b[index])), 0);
}

// Head sizes 12 and 16: plain and fused attention in the written file; a sliding window; learned positions.
describe.each(['llama', 'llama-tied-llama3rope', 'qwen3', 'mistral', 'gpt2'])('%s', (name) => {
  it('scores the same in chunks as in one piece, in memory and from a file', async () => {
    const model = await open(name);
    const path = written(model);
    const whole = await all(modelScorer(model));
    expect(whole).toHaveLength((39 + 1 + 32) * 256);
    expect(difference(await all(modelScorer(model, { rows: 7 })), whole)).toBeLessThan(1e-4);
    expect(difference(await all(await fileScorer(path)), whole)).toBeLessThan(1e-4);
    expect(difference(await all(await fileScorer(path, { rows: 7 })), whole)).toBeLessThan(1e-4);
  });

  it.each([
    [4, false],
    [4, true],
    [8, false],
  ])('costs in a file of %s bits (symmetric %s) what it costs in memory', async (bits, symmetric) => {
    const plain = await open(name);
    const { hidden } = plain.config;
    // With a head behind an earlier layer that is stored, and stands on no way to the logits.
    const exit = addExit(plain, 0, denseValues(new Float32Array(256 * hidden).fill(0.1), 256, hidden));
    for (const model of [
      plain,
      await quantized(plain, bits, symmetric),
      await quantized(exit, bits, symmetric),
    ]) {
      const path = written(model);
      const cost = fileCost(path);
      expect(cost.parameters).toBe(parameters(model));
      expect(cost.multiplyAdds).toBe(multiplyAdds(model));
      expect(cost.bitsPerWeight).toBeCloseTo(bitsPerWeight(model), 10);
      const stored = storedWeights(readOnnx(path)).weights.reduce((sum, { bytes }) => sum + bytes, 0);
      expect((8 * stored) / cost.parameters).toBeCloseTo(cost.bitsPerWeight, 10);
      expect(cost.bytes).toBeGreaterThan(stored);
    }
  });
});

/** What the matrices are rounded to; in a graph they are looked up, and summed. */
const lookedUp: readonly (readonly [string, (weight: Matrix) => Promise<Encoding>])[] = [
  ...(['nf4', 'mxfp4', 'nvfp4', 'fp8-e4m3'] as const).map(
    (numbers) => [numbers, (weight: Matrix) => roundToLevels(weight, { numbers, range: 'minmax' })] as const,
  ),
  ['signs', (weight) => roundToSigns(weight, binary.options.parse({ planes: 1 }))],
  ['two planes of signs', (weight) => roundToSigns(weight, binary.options.parse({}))],
];

it.each(lookedUp)('%s cost in a file what they cost in memory', async (_, round) => {
  const model = await quantized(await open('llama'), 8, true);
  const matrices = new Map(model.matrices);
  for (const [name, { shape, dense }] of model.matrices) {
    if (name === 'model.embed_tokens') continue;
    matrices.set(name, await round({ rows: shape[0], columns: shape[1], values: dense() }));
  }
  const rounded = { ...model, matrices };
  const path = written(rounded);
  const cost = fileCost(path);
  expect(cost.parameters).toBe(parameters(rounded));
  expect(cost.multiplyAdds).toBe(multiplyAdds(rounded));
  expect(cost.bitsPerWeight).toBeCloseTo(bitsPerWeight(rounded), 10);
  // Those that are multiplied as whole numbers split their inputs in two.
  expect(difference(await all(await fileScorer(path)), await all(modelScorer(rounded)))).toBeLessThan(1e-3);
});

it.each([
  ['two bits in groups of 16, which are widened at load', 2, 16, {}],
  ['four bits that are restored at load', 4, 32, { products: 'dequantized' }],
] as const)('%s cost in a file what they cost in memory', async (_, bits, group, options) => {
  const original = await open('qwen2');
  const model = await quantized(original, bits, false, group);
  const [file] = exportTransformers(model, folder, { files: [options] });
  const cost = fileCost(join(folder, file.path));
  expect(cost.parameters).toBe(parameters(model));
  expect(cost.multiplyAdds).toBe(multiplyAdds(model));
  expect(cost.bitsPerWeight).toBeCloseTo(bitsPerWeight(model), 10);
});

it('integer products cost in a file what they cost in memory', async () => {
  const original = await open('llama');
  const matrices = new Map<string, Encoding>();
  for (const [name, { shape, dense }] of original.matrices) {
    const weight = { rows: shape[0], columns: shape[1], values: dense() };
    matrices.set(name, await w8a8.plain!(weight, w8a8.options.parse({})));
  }
  const model = { ...original, matrices };
  const cost = fileCost(written(model));
  expect(cost.parameters).toBe(parameters(model));
  expect(cost.multiplyAdds).toBe(multiplyAdds(model));
  expect(cost.bitsPerWeight).toBeCloseTo(bitsPerWeight(model), 10);
});

describe('a written file', () => {
  it('in four bits is as far from the original as the model in memory', async () => {
    const model = await open('llama');
    const small = await quantized(model, 4, false);
    const options = { against: modelScorer(model), sequences, characters };
    const inMemory = await evaluate({ scorer: modelScorer(small), ...options });
    const inFile = await evaluate({ scorer: await fileScorer(written(small)), ...options });
    expect(inMemory.kl!.mean).toBeGreaterThan(1e-3);
    expect(inFile.kl!.mean).toBeCloseTo(inMemory.kl!.mean, 5);
    expect(inFile.nats).toBeCloseTo(inMemory.nats, 5);
  });

  it('in float16 takes its cache in float16', async () => {
    const model = await open('qwen3');
    const scorer = await fileScorer(written(model, 'float16'), { rows: 9 });
    const against = modelScorer(model, { rows: 9 });
    const { kl } = await evaluate({ scorer, against, sequences, characters });
    expect(kl!.mean).toBeLessThan(1e-3);
  });

  it('has a speed', async () => {
    const speed = await measureSpeed(written(await open('llama')), { prompt: 16, tokens: 4, runs: 1 });
    expect(speed.prefillTokensPerSecond).toBeGreaterThan(0);
    expect(speed.decodeTokensPerSecond).toBeGreaterThan(0);
  });

  it('that is no model, or no language model, is refused by name', async () => {
    const path = join(folder, 'noise.onnx');
    writeFileSync(path, 'this is not ONNX');
    await expect(openFile(path)).rejects.toThrow(/noise.onnx: the engine refused/);
    await expect(async () => fileCost(path)).rejects.toThrow(/noise.onnx/);
  });
});
