import { describe, expect, it } from 'vitest';
import { halfCode, halfValue } from '../base/half.ts';
import { random } from '../base/random.ts';
import type { Area, Kernels } from './kernels.ts';
import { withKernels } from './kernels.ts';
import type { PartForm } from './parts-twin.ts';
import { choosePart, valueOf } from './parts-twin.ts';

const { fround } = Math;
const half = (value: number) => halfValue(halfCode(value));
const [rows, stride, size, columns] = [21, 32, 16, 48];
const parts = columns / size;
const { normal, uniform } = random(7);
const normals = (count: number, scale: number) => Float32Array.from({ length: count }, () => scale * normal());

/** U^T, lower triangular: of what a Gram matrix of mixed columns gives. */
function triangle(n: number): Float32Array {
  const u = new Float32Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < i; k++) u[i * n + k] = fround(0.1 * normal());
    u[i * n + i] = fround(0.5 + uniform());
  }
  return u;
}

const forms: Readonly<Record<string, PartForm>> = {
  'float16 scales': { least: 0, most: 0, zero: 8, top: 15, minima: false },
  'float16 scales and minima': { least: 0, most: 0, zero: 0, top: 15, minima: true },
  'float16 scales and zero points': { least: 0, most: 0, zero: 0, top: 15, minima: 'zero points' },
  'numbers with a sign': {
    units: { scale: half(0.0011), minimum: 0 },
    least: -32,
    most: 31,
    zero: 4,
    top: 7,
    minima: false,
  },
  'numbers and minima': {
    units: { scale: half(0.003), minimum: half(0.006) },
    least: 0,
    most: 15,
    zero: 0,
    top: 3,
    minima: true,
  },
};

function put(kernels: Kernels, values: Float32Array | Int32Array | Uint8Array): Area {
  const area = kernels.reserve(values.byteLength);
  kernels.bytes(area).set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  return area;
}

/** Scales and minima that ggml could have chosen, [parts, stride], the last row's 0. */
function start({ units, minima }: PartForm): readonly [Float32Array, Float32Array] {
  const scales = Float32Array.from({ length: parts * stride }, (_, i) =>
    i % stride === rows - 1 ? 0 : units ? fround(units.scale * (5 + (i % 9))) : half(0.02 + 0.01 * uniform()),
  );
  const lows = scales.map((scale, i) =>
    minima === 'zero points' ? fround(scale * (i % 9)) : !minima || i % stride === rows - 1 ? 0 : units ? fround(units.minimum * (3 + (i % 5))) : half(0.1),
  );
  return [scales, lows];
}

/** What the kernels are told of a type; units are the same everywhere here. */
function formOf(kernels: Kernels, { units, least, most, zero, top, minima }: PartForm): number[] {
  const each = (unit: number) => put(kernels, new Float32Array(stride).fill(unit)).at;
  const at = units ? [each(units.scale), each(units.minimum)] : [0, 0];
  return [...at, parts, least, most, zero, top, minima === 'zero points' ? 2 : Number(minima)];
}

const scratch = 64 * (7 * size + 8 + columns);
const which = Int32Array.of(2, 0, 1);
const column = (values: Float32Array, row: number, from: number, count: number) =>
  Array.from({ length: count }, (_, i) => values[(from + i) * stride + row]);
const rowsOf = (u: Float32Array, n: number, from: number) =>
  Array.from({ length: size }, (_, i) => u.subarray((from + i) * n + from, (from + i) * n + from + size));

describe.each(Object.entries(forms))('parts with %s', (_, form) => {
  it.each([1, 3])('swept on %i threads: as their twin', async (threads) => {
    const w = normals(columns * stride, 0.1);
    const origin = normals(columns * stride, 0.1);
    const u = triangle(columns);
    const [scales, minima] = start(form);
    const found = await withKernels((kernels) => {
      const areas = [w, origin, u, which, scales, minima].map((values) => put(kernels, values));
      const codes = kernels.reserve(columns * stride);
      const [wAt, originAt, uAt, whichAt, scalesAt, minimaAt] = areas.map(({ at }) => at);
      const block = [wAt, originAt, columns, stride, uAt, columns, size, whichAt, scalesAt, minimaAt, codes.at];
      kernels.run('sweepParts', stride / 16, scratch, ...block, ...formOf(kernels, form));
      const [, left, , , s, m] = areas.map((area) => kernels.floats(area).slice());
      return { left, s, m, codes: kernels.bytes(codes).slice() };
    }, threads);
    for (let row = 0; row < rows; row++) {
      const errors: number[] = [];
      for (let index = 0; index < parts; index++) {
        const from = index * size;
        const x = column(w, row, from, size).map((value, i) =>
          errors.reduce((left, e, k) => fround(left - fround(u[(from + i) * columns + k] * e)), value),
        );
        const at = which[index] * stride + row;
        const first = { scale: scales[at], minimum: minima[at], codes: [], errors: [], loss: Number.POSITIVE_INFINITY };
        const best = choosePart(x, rowsOf(u, columns, from), form, first, true);
        errors.push(...best.errors);
        expect([found.s[at], found.m[at]]).toEqual([best.scale, best.minimum]);
        best.codes.forEach((code, i) => {
          const line = (from + i) * stride + row;
          expect(found.codes[line]).toBe(code);
          expect(found.left[line]).toBe(fround(origin[line] - valueOf(code, best, form.zero)));
        });
      }
    }
  });

  it.each([1, 3])('gone over again on %i threads: as their twin, and never worse', async (threads) => {
    const [scales, minima] = start(form);
    const codes = Uint8Array.from({ length: columns * stride }, (_, i) => (7 * i) % (form.top + 1));
    const q = Float32Array.from(codes, (code, i) => {
      const at = which[Math.floor(i / stride / size)] * stride + (i % stride);
      return valueOf(code, { scale: scales[at], minimum: minima[at] }, form.zero);
    });
    const g = normals(columns * stride, 0.05);
    const u = triangle(size);
    const inverse = new Float32Array(columns * size);
    for (let index = 0; index < parts; index++) inverse.set(u, index * size * size);
    const gram = normals(columns * columns, 0.1);
    const found = await withKernels((kernels) => {
      const areas = [q, g, gram, inverse, which, scales, minima].map((values) => put(kernels, values));
      const [qAt, gAt, gramAt, inverseAt, whichAt, scalesAt, minimaAt] = areas.map(({ at }) => at);
      const target = put(kernels, codes);
      const panel = [qAt, gAt, columns, stride, gramAt, inverseAt, size, whichAt, scalesAt, minimaAt, target.at];
      kernels.run('descendParts', stride / 16, scratch, ...panel, ...formOf(kernels, form));
      const [values, , , , , s, m] = areas.map((area) => kernels.floats(area).slice());
      return { values, s, m, codes: kernels.bytes(target).slice() };
    }, threads);
    let improved = 0;
    for (let row = 0; row < rows; row++) {
      const slopes = column(g, row, 0, columns);
      for (let index = 0; index < parts; index++) {
        const from = index * size;
        // t = g U^T, column by column of U^T.
        const errors = Array.from({ length: size }, (_, i) => {
          let e = 0;
          for (let k = i; k < size; k++) e = fround(e - fround(u[k * size + i] * slopes[from + k]));
          return e;
        });
        const now = column(q, row, from, size);
        const x = now.map((value, i) =>
          errors.slice(0, i + 1).reduce((left, e, k) => fround(left - fround(u[i * size + k] * -e)), value),
        );
        const loss = errors.reduce((sum, e) => fround(sum + fround(e * e)), 0);
        const at = which[index] * stride + row;
        const own = Array.from({ length: size }, (_, i) => codes[(from + i) * stride + row]);
        const first = { scale: scales[at], minimum: minima[at], codes: own, errors, loss };
        const best = choosePart(x, rowsOf(u, size, 0), form, first, false);
        if (best.loss < loss) improved++;
        expect([found.s[at], found.m[at]]).toEqual([best.scale, best.minimum]);
        const values = best.codes.map((code) => valueOf(code, best, form.zero));
        expect(column(found.values, row, from, size)).toEqual(values);
        const changes = values.map((value, i) => fround(now[i] - value));
        for (let i = from + size; i < columns; i++) {
          changes.forEach((change, k) => {
            slopes[i] = fround(slopes[i] - fround(gram[i * columns + from + k] * change));
          });
        }
      }
    }
    expect(improved).toBeGreaterThan(rows);
  });
});
