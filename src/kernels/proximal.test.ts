import { describe, expect, it } from 'vitest';
import { random } from '../base/random.ts';
import { withKernels } from './kernels.ts';
import { proximal, proximalCode, proximalStart } from './proximal-twin.ts';

const [columns, stride, size] = [40, 32, 16];
const groups = 3;

/** Weights [columns, stride], some far off, and a group of one value. */
function weights(spread: number): Float32Array {
  const { normal } = random(7);
  return Float32Array.from({ length: columns * stride }, (_, at) => {
    const [column, row] = [Math.floor(at / stride), at % stride];
    if (row === 5 && column < size) return 0.25;
    return spread * normal() * ((row + column) % 11 === 0 ? 8 : 1);
  });
}

const groupOf = (w: Float32Array, group: number, row: number) =>
  Float32Array.from(
    { length: Math.min(size, columns - group * size) },
    (_, i) => w[(group * size + i) * stride + row],
  );

describe.each([
  { what: 'small weights', spread: 0.05, both: false },
  { what: 'large weights, of which many are outliers', spread: 1, both: false },
  { what: 'scales as well', spread: 1, both: true },
])('a proximal step: $what', ({ spread, both }) => {
  it.each([1, 3])('is the plain one, on %i threads', async (threads) => {
    const w = weights(spread);
    const [top, beta, power] = [7, 10, 0.7];
    await withKernels((kernels) => {
      const at = kernels.reserve(w.byteLength);
      kernels.floats(at).set(w);
      const [scales, zeros, errors] = [0, 1, 2].map(() => kernels.reserve(groups * stride * 4));
      const codes = kernels.reserve(columns * stride);
      const items = (groups * stride) / 16;
      const layout = [at.at, columns, stride, size, scales.at, zeros.at];
      const parameters = (at: number) => ({ scale: kernels.floats(scales)[at], zero: kernels.floats(zeros)[at] });
      const each = (check: (values: Float32Array, at: number) => void) => {
        for (let at = 0; at < groups * stride; at++) check(groupOf(w, Math.floor(at / stride), at % stride), at);
      };
      kernels.run('proximalStart', items, 0, ...layout, top);
      const starts = new Map<number, ReturnType<typeof proximalStart>>();
      each((values, at) => {
        const { scale, zero } = proximalStart(values, top);
        starts.set(at, parameters(at));
        expect(parameters(at).scale).toBeCloseTo(scale, 5);
        expect(parameters(at).zero).toBeCloseTo(zero, 4);
      });
      kernels.run('proximal', items, 0, ...layout, errors.at, top, beta, power, Number(both));
      each((values, at) => {
        const expected = proximal(values, starts.get(at)!, { top, beta, power, both });
        expect(parameters(at).scale).toBeCloseTo(expected.scale, 4);
        expect(parameters(at).zero).toBeCloseTo(expected.zero, 3);
        expect(kernels.floats(errors)[at]).toBeCloseTo(expected.error, 4);
      });
      kernels.run('proximalCodes', items, 0, ...layout, codes.at, top);
      each((values, at) => {
        const [group, row] = [Math.floor(at / stride), at % stride];
        values.forEach((value, i) => {
          const found = kernels.bytes(codes)[(group * size + i) * stride + row];
          const { scale, zero } = parameters(at);
          const exact = value / scale + zero;
          // Halfway between two codes, the last digit decides.
          if (Math.abs(exact - Math.floor(exact) - 0.5) > 1e-4) expect(found).toBe(proximalCode(value, { scale, zero }, top));
        });
      });
    }, threads);
  });
});
