/** GPTAQ's correction against GPTQModel's code, which is adapted from its authors'; see test/goldens/README.md. */

import { describe, expect, it } from 'vitest';
import { toFloat32 } from '../base/half.ts';
import { openSafetensors } from '../io/safetensors/read.ts';
import { gptq } from '../methods/quantize/gptq.ts';

const { tensors } = openSafetensors(
  new URL('../../test/goldens/gptaq.safetensors', import.meta.url).pathname,
);
const golden = (name: string) => toFloat32(tensors.get(name)!);
const [rows, columns, tokens] = [24, 64, 256];
const [weight, original, inputs] = ['weight', 'original', 'inputs'].map(golden);

/** a^T b of [tokens, columns] each. */
function product(a: Float32Array, b: Float32Array): Float32Array {
  const sums = new Float64Array(columns * columns);
  for (let t = 0; t < tokens; t++)
    for (let i = 0; i < columns; i++)
      for (let j = 0; j < columns; j++) sums[i * columns + j] += a[t * columns + i] * b[t * columns + j];
  return Float32Array.from(sums);
}

/** |X' W^T - X V^T|^2 / |X' W^T|^2: how far V on the compressed model's inputs is from W on the original's. */
function error(values: Float32Array): number {
  let [difference, whole] = [0, 0];
  for (let t = 0; t < tokens; t++) {
    for (let row = 0; row < rows; row++) {
      let [wanted, found] = [0, 0];
      for (let i = 0; i < columns; i++) {
        wanted += original[t * columns + i] * weight[row * columns + i];
        found += inputs[t * columns + i] * values[row * columns + i];
      }
      difference += (wanted - found) ** 2;
      whole += wanted ** 2;
    }
  }
  return difference / whole;
}

async function corrected(bits: number, asymmetric: number): Promise<number> {
  const options = { bits, asymmetric, group: -1, range: 'minmax', activationOrder: false, scales: 'float32' };
  const statistic = {
    tokens,
    gram: product(inputs, inputs),
    cross: product(
      inputs,
      original.map((value, at) => value - inputs[at]),
    ),
  };
  const layer = { rows, columns, values: weight.slice() };
  return error((await gptq.compress(layer, statistic, gptq.options.parse(options))).dense());
}

describe.each([2, 3, 4])("GPTAQ's correction at %d bits", (bits) => {
  it.each([0, 0.25, 1])('with a share of %d leaves no more error than the golden', async (share) => {
    const theirs = error(golden(`quantized.${bits}.${share.toFixed(share === 0.25 ? 2 : 1)}`));
    expect(await corrected(bits, share)).toBeLessThan(1.03 * theirs);
  });

  it('leaves less error the more of it is made', async () => {
    const [none, all] = [await corrected(bits, 0), await corrected(bits, 1)];
    expect(all).toBeLessThan(none);
  });
});
