import { describe, expect, it } from 'vitest';
import { random } from '../base/random.ts';
import { withKernels } from './kernels.ts';
import type { LatentGroup } from './latents-twin.ts';
import { spread, stepLatents } from './latents-twin.ts';

const [rows, columns, length] = [5, 42, 16];
const groups = Math.ceil(columns / length);
const range = { least: 0, greatest: 7 };

const sizeOf = (group: number) => Math.min(length, columns - group * length);

/** Groups [rows, groups], some of their codes beyond the range. */
function start(): LatentGroup[] {
  const { uniform, normal } = random(3);
  return Array.from({ length: rows * groups }, (_, at) => {
    const size = sizeOf(at % groups);
    return {
      latents: Float32Array.from({ length: size }, () => 12 * uniform() - 2),
      means: new Float32Array(size),
      squares: new Float32Array(size),
      scale: Math.fround(Math.abs(normal()) + 0.01),
      zero: 3,
      change: 0,
      mean: 0,
      square: 0,
    };
  });
}

describe('steps of Adam on latent codes', () => {
  it.each([1, 3])('are the plain ones, on %i threads', async (threads) => {
    const { normal } = random(4);
    let plain = start();
    await withKernels((kernels) => {
      const room = (count: number, values?: Float32Array) => {
        const area = kernels.reserve(4 * count);
        kernels.bytes(area).fill(0);
        if (values) kernels.floats(area).set(values);
        return area;
      };
      const all = (of: (group: LatentGroup) => Float32Array) =>
        Float32Array.from(plain.flatMap((group) => [...of(group)]));
      const latents = room(
        rows * columns,
        all((group) => group.latents),
      );
      const [flow, means, squares] = [0, 1, 2].map(() => room(rows * columns));
      const scales = room(
        plain.length,
        all(({ scale }) => Float32Array.of(scale)),
      );
      const zeros = room(
        plain.length,
        all(({ zero }) => Float32Array.of(zero)),
      );
      const [changes, moments] = [room(2 * plain.length), room(4 * plain.length)];
      const places = [flow, latents, means, squares].map(({ at }) => at);
      const ofGroups = [scales, zeros, changes, moments].map(({ at }) => at);
      for (let step = 1; step <= 20; step++) {
        const rates = { ...range, codes: 0.05, scales: 0.01, step };
        // As small as gradients of a mean over many tokens are.
        const gradients = plain.map(({ latents }) => latents.map(() => 1e-7 * normal()));
        plain = plain.map((group, at) => stepLatents(group, gradients[at], rates));
        kernels.floats(flow).set(gradients.flatMap((each) => [...each]));
        const [first, second] = [1 - 0.9 ** step, 1 / (1 - 0.95 ** step)];
        const paces = [rates.codes / first, second, rates.scales / first, second];
        const values = [...places, columns, length, ...ofGroups, range.least, range.greatest, ...paces];
        kernels.run('stepLatents', rows, 0, ...values);
      }
      const expected = all((group) => group.latents);
      const weights = plain.flatMap((group) => [...spread(group, range)]);
      for (const [at, u] of expected.entries()) {
        expect(kernels.floats(latents)[at]).toBeCloseTo(u, 4);
        // Halfway between two codes, the last digit decides.
        if (Math.abs(u - Math.floor(u) - 0.5) > 1e-4) expect(kernels.floats(flow)[at]).toBeCloseTo(weights[at], 4);
      }
    }, threads);
  });
});
