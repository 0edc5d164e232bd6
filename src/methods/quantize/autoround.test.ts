import { describe, expect, it } from 'vitest';
import { tinyLlama } from '../../../test/models/tiny.ts';
import { random } from '../../base/random.ts';
import type { Encoding } from '../../encodings/encoding.ts';
import { encodedBytes } from '../../encodings/encoding.ts';
import { groupedPacked, ungrouped } from '../../encodings/grouped.ts';
import type { Tensor } from '../../graph/session.ts';
import { tensor } from '../../graph/session.ts';
import { withKernels } from '../../kernels/kernels.ts';
import { openRunner } from '../../models/runner.ts';
import type { TrainedBlock } from '../../contract/method.ts';
import type { AutoRoundOptions } from './autoround.ts';
import { autoround } from './autoround.ts';
import type { RoundedMatrix, Start } from '../../train/learned-rounding.ts';
import { roomFor, roundedMatrix } from '../../train/learned-rounding.ts';
import { roundToNearest } from '../../rounding/nearest.ts';

const model = tinyLlama({ tied: false });
const { hidden } = model.config;
const names = [...model.matrices.keys()].filter((name) => name.startsWith('model.layers.0.'));
const parse = (some: Partial<AutoRoundOptions>) => autoround.options.parse({ group: 16, batch: 8, ...some });

const time = 16;
/** Hidden states [rows, time, hidden] in two batches of 8 rows. */
const inputs = [1, 2].map((seed) => {
  const { normal } = random(seed);
  return tensor(
    'float32',
    [8, 6, hidden],
    Float32Array.from({ length: 48 * hidden }, () => normal()),
  );
});

async function outputs(matrices?: ReadonlyMap<string, Encoding>): Promise<Tensor[]> {
  const runner = openRunner(model, { threads: 1, longest: time });
  const weights = { matrices: new Map([...model.matrices, ...(matrices ?? [])]), vectors: model.vectors };
  const stage = await runner.block(0, { weights });
  const found: Tensor[] = [];
  for (const x of inputs) found.push((await stage.run({ x })).hidden);
  await runner.release();
  return found;
}

async function block(some: Partial<TrainedBlock> = {}): Promise<TrainedBlock> {
  const targets = await outputs();
  return {
    model,
    layer: 0,
    names,
    inputs,
    targets,
    seed: 0,
    session: { threads: 1 },
    step: () => {},
    ...some,
  };
}

/** Mean squared error of the block's outputs. */
async function loss(matrices: ReadonlyMap<string, Encoding>): Promise<number> {
  const [wanted, found] = [await outputs(), await outputs(matrices)];
  let sum = 0;
  let count = 0;
  wanted.forEach(({ data }, batch) => {
    (data as Float32Array).forEach((value, i) => {
      sum += (value - Number(found[batch].data[i])) ** 2;
      count += 1;
    });
  });
  return sum / count;
}

async function plainly(options: AutoRoundOptions) {
  const found = new Map<string, Encoding>();
  for (const name of names) {
    const matrix = model.matrices.get(name)!;
    const [rows, columns] = matrix.shape;
    found.set(name, await autoround.plain({ rows, columns, values: matrix.dense() }, options));
  }
  return found;
}

describe('autoround', () => {
  it.each([
    { bits: 3, symmetric: true },
    { bits: 2, group: -1 },
    { bits: 3, minmax: false, scales: 'float32' },
    { bits: 4, scales: 'short' },
  ] as const)('gives a block with less error than plain rounding, in as many bytes: %o', async (some) => {
    // As few steps ask for.
    const options = parse({ range: 'mse', rangeRate: 0.2, steps: 40, ...some });
    const found = await autoround.train(await block(), options);
    const plain = await plainly(options);
    expect([...found.keys()]).toEqual(names);
    expect(await loss(found)).toBeLessThan((await loss(plain)) * (some.bits === 2 ? 0.7 : 0.95));
    for (const [name, encoding] of found) {
      expect(encodedBytes(encoding)).toBe(encodedBytes(plain.get(name)!));
      expect(encoding.description).toEqual(plain.get(name)!.description);
      expect(encoding.dense().every(Number.isFinite)).toBe(true);
    }
  });

  it('gives the same bytes for the same seed, and others for another', async () => {
    const run = async (seed: number) => autoround.train(await block({ seed }), parse({ bits: 2, steps: 30 }));
    const bytes = (found: ReadonlyMap<string, Encoding>) =>
      [...found.values()].flatMap(({ tensors }) => [...tensors.values()].map((each) => each.bytes()));
    const [first, second, other] = [await run(1), await run(1), await run(2)];
    expect(bytes(second)).toEqual(bytes(first));
    expect(bytes(other)).not.toEqual(bytes(first));
  });

  it('tells its steps, and stops at the signal', async () => {
    const controller = new AbortController();
    const told: number[] = [];
    const step = (done: number, total: number) => {
      expect(total).toBe(50);
      told.push(done);
      if (done === 3) controller.abort();
    };
    const aborted = block({ step, signal: controller.signal });
    await expect(autoround.train(await aborted, parse({ steps: 50 }))).rejects.toThrow(/abort/);
    expect(told).toEqual([1, 2, 3]);
  });
});

describe('a matrix whose rounding is trained', () => {
  const [rows, columns] = [5, 40];
  const { normal } = random(3);
  const weight = { rows, columns, values: Float32Array.from({ length: rows * columns }, () => normal()) };
  const choice = { bits: 3, group: 16, symmetric: false, range: 'mse', scales: 'float16' } as const;
  const still = { offsets: 0, ranges: 0 };
  const using = <T>(start: Start, use: (matrix: RoundedMatrix) => T): Promise<T> =>
    withKernels(
      (kernels) => use(roundedMatrix(kernels, kernels.reserve(4 * roomFor(start.weight)), start)),
      2,
    );

  async function rounded(some: object = {}) {
    const own = { ...choice, ...some };
    const plain = await roundToNearest(weight, own);
    const { scales, zeros } = plain;
    return { plain, start: { weight, choice: own, scales, zeros, minmax: true } };
  }

  it.each([{}, { symmetric: true }, { bits: 2, group: -1 }, { scales: 'float32' }, { scales: 'short' }])(
    'starts from plain rounding, and is stored as it multiplies: %o',
    async (some) => {
      const { plain, start } = await rounded(some);
      const before = groupedPacked(plain).dense();
      await using(start, (matrix) => {
        expect(matrix.finished().dense()).toEqual(before);
        matrix.step(Float32Array.from(weight.values, Math.sin), still);
        expect(matrix.values).toEqual(before);
        matrix.step(Float32Array.from(weight.values, Math.sin), { offsets: 0.3, ranges: 0.1 });
        expect(matrix.values).not.toEqual(before);
        expect(matrix.finished().dense()).toEqual(matrix.values);
      });
    },
  );

  it('moves an offset by its rate against the sign of its gradient, where the code is not at an end', async () => {
    const scales = Float32Array.of(1);
    const own = { ...choice, bits: 2, group: -1 } as const;
    const row = { rows: 1, columns: 5, values: Float32Array.of(1.4, 1.4, 1.4, 2.6, -0.7) };
    const start = { weight: row, choice: own, scales, zeros: Uint8Array.of(0), minmax: false };
    await using(start, (matrix) => {
      expect([...matrix.values]).toEqual([1, 1, 1, 3, 0]);
      matrix.step(Float32Array.of(-1e-6, 1e6, 0, 1, 1), { offsets: 0.2, ranges: 1 });
      expect([...matrix.values]).toEqual([2, 1, 1, 2, 0]);
      // What lies past an end passes nothing on; what has moved goes on from where it is.
      matrix.step(Float32Array.of(1, -1, 0, -1, -1), { offsets: 0.35, ranges: 1 });
      expect([...matrix.values]).toEqual([1, 2, 1, 3, 0]);
    });
  });

  it('moves the ends of its ranges against their gradients, as if codes stayed as they are', async () => {
    const slopes = Float32Array.from(weight.values, (_, i) => Math.cos(i));
    const { plain, start: given } = await rounded({ scales: 'float32' });
    const after = await using(given, (matrix) => {
      matrix.step(slopes, { offsets: 0, ranges: 0.01 });
      return ungrouped(matrix.finished())!;
    });
    const dense = groupedPacked(plain).dense();
    const [top, perRow] = [7, 3];
    for (const [group, scale] of plain.scales.entries()) {
      // By hand: W' = s (c - z), where codes at an end of the range move with it.
      const zero = plain.zeros![group];
      let [toScale, toZero] = [0, 0];
      const start = (group % perRow) * 16;
      for (let column = start; column < Math.min(start + 16, columns); column++) {
        const at = Math.floor(group / perRow) * columns + column;
        const exact = weight.values[at] / scale;
        const free = Math.floor(exact + 0.5) + zero;
        const inside = free >= 0 && free <= top;
        toScale += slopes[at] * (dense[at] / scale - (inside ? exact : 0));
        toZero -= inside ? 0 : slopes[at] * scale;
      }
      const [low, high] = [scale * zero, scale * (top - zero)];
      const toLow = (toScale / top + toZero * (1 / scale - low / scale ** 2 / top)) * low;
      const toHigh = (toScale / top - (toZero * low) / scale ** 2 / top) * high;
      const moved = (low * (1 - 0.01 * Math.sign(toLow)) + high * (1 - 0.01 * Math.sign(toHigh))) / top;
      expect(after.scales[group] / moved, `group ${group}`).toBeCloseTo(1, 5);
    }
  });
});
