import { describe, expect, it } from 'vitest';
import { maxDifference, openGolden, quantized } from '../../test/engines/models.ts';
import { floatToHalf } from '../base/half.ts';
import { stored } from '../base/tensor.ts';
import { dense } from '../encodings/dense.ts';
import { openFile } from '../evaluate/file.ts';
import { openSession } from '../graph/session.ts';
import type { Model } from '../models/model.ts';
import { logits } from '../models/runner.ts';
import { exportGraph, levelsOf } from './graph.ts';

const ids = Int32Array.from({ length: 21 }, (_, i) => 3 + ((i * 37) % 200));

/** Logits of `ids`, fed in pieces behind each other. */
async function inPieces(model: Model, pieces: readonly number[]): Promise<number[]> {
  const runner = await openFile(exportGraph(model));
  let [past, cache] = [0, runner.empty()];
  const all: number[] = [];
  for (const count of pieces) {
    const step = await runner.step(ids.subarray(past, past + count), past, cache, 0);
    all.push(...(step.logits.data as Float32Array));
    cache = step.cache;
    past += count;
  }
  await runner.close();
  return all;
}

const withWindow = (model: Model, window: number): Model => {
  const layers = model.config.layers.map((layer) => ({ ...layer, window }));
  return { ...model, config: { ...model.config, layers } };
};

/** Names of the initializers of at least `bytes`. */
const largeTensors = (model: Model, bytes: number) =>
  [...exportGraph(model).initializers]
    .filter(([, tensor]) => tensor.byteLength >= bytes)
    .map(([name]) => name);

describe('the exported graph', () => {
  // Head sizes 12 (plain nodes) and 16 (the fused operator); mistral's window is 8.
  it.each(['llama', 'mistral', 'gpt2', 'qwen3', 'llama-tied-llama3rope'] as const)(
    '%s: fed whole, in pieces and token by token it is the model',
    async (name) => {
      const model = await openGolden(name);
      const expected = (await logits(model, [ids])).data as Float32Array;
      for (const pieces of [[21], [10, 7, 4], [5, ...new Array(16).fill(1)]]) {
        expect(maxDifference(await inPieces(model, pieces), expected)).toBeLessThan(1e-5);
      }
    },
  );

  it.each([1, 2, 5])(
    'a window of %s positions in the fused operator counts the token itself',
    async (window) => {
      const model = withWindow(await openGolden('qwen3'), window);
      const expected = (await logits(model, [ids])).data as Float32Array;
      expect(maxDifference(await inPieces(model, [12, 1, 8]), expected)).toBeLessThan(1e-5);
    },
  );

  // Head sizes 16 (the fused operator) and 12 (plain nodes).
  it.each(['qwen3', 'llama', 'llama-tied-llama3rope'] as const)(
    '%s: of a context beyond all tables computes its cosines, to the same answers',
    async (name) => {
      const model = await openGolden(name);
      const expected = (await logits(model, [ids])).data as Float32Array;
      for (const context of [1_010_000, 2 ** 31 - 1]) {
        const long = { ...model, config: { ...model.config, context } };
        expect(maxDifference(await inPieces(long, [12, 1, 8]), expected)).toBeLessThan(1e-5);
        expect(largeTensors(long, 1e5)).toEqual([]);
      }
    },
  );

  it('gives the logits of the last tokens alone when asked', async () => {
    const model = await openGolden('llama');
    const runner = await openFile(exportGraph(model));
    const { logits: all } = await runner.step(ids, 0, runner.empty(), 0);
    const { logits: last } = await runner.step(ids, 0, runner.empty(), 2);
    await runner.close();
    expect(last.dims).toEqual([1, 2, 256]);
    expect(
      maxDifference(last.data as Float32Array, (all.data as Float32Array).subarray(19 * 256)),
    ).toBeLessThan(1e-5);
  });

  it('names its inputs and outputs as transformers.js does, heads and sizes of caches as numbers', async () => {
    const { inputs, outputs } = await openSession(exportGraph(await openGolden('qwen3')));
    const layers = [0, 1, 2].flatMap((layer) => [`${layer}.key`, `${layer}.value`]);
    expect(inputs.map(({ name }) => name)).toEqual([
      'input_ids',
      'attention_mask',
      'num_logits_to_keep',
      ...layers.map((name) => `past_key_values.${name}`),
    ]);
    expect(outputs.map(({ name }) => name)).toEqual(['logits', ...layers.map((name) => `present.${name}`)]);
    expect(inputs.at(-1)?.shape).toEqual(['batch_size', 2, 'past_sequence_length', 16]);
  });

  it('stores a tied embedding once, dense or in four bits', async () => {
    const tied = await openGolden('qwen2');
    expect(largeTensors(tied, 256 * 48 * 4)).toEqual(['model.embed_tokens.weight']);
    expect(largeTensors(await quantized(tied, 4), (256 * 48) / 2)).toEqual(['model.embed_tokens.codes']);
  });

  it('in float32 looks nothing up in float16, which GPUs without it could not', async () => {
    const tied = await openGolden('qwen2');
    const halves = [...tied.matrices].map(([name, encoding]) => {
      const codes = floatToHalf(encoding.dense());
      return [name, dense(stored('float16', encoding.shape, codes))] as const;
    });
    for (const model of [{ ...tied, matrices: new Map(halves) }, await quantized(tied, 4)]) {
      const lookups = exportGraph(model).nodes.filter(({ op }) => op === 'Gather');
      expect(lookups.length).toBeGreaterThan(0);
      for (const { inputs } of lookups) expect(inputs[0]?.dtype).not.toBe('float16');
    }
  });

  it('passes the accuracy level to every product', async () => {
    const original = await openGolden('llama');
    for (const [bits, asked, expected] of [
      [4, 0, [0]],
      [4, 4, [4]],
      [2, 0, [0]],
      [2, 4, [4]],
      [8, 0, [0]],
      [8, 4, [4]],
    ] as const) {
      const graph = exportGraph(await quantized(original, bits), { accuracyLevel: asked });
      expect(graph.nodes.filter(({ op }) => op === 'MatMulNBits')).toHaveLength(3 * 7 + 1);
      expect(levelsOf(graph)).toEqual(expected);
    }
  });
});
