import { describe, expect, it } from 'vitest';
import { tinyLlama } from '../../../test/models/tiny.ts';
import { random } from '../../base/random.ts';
import type { Encoding } from '../../encodings/encoding.ts';
import { encodedBytes } from '../../encodings/encoding.ts';
import { groupedPacked } from '../../encodings/grouped.ts';
import { Graph } from '../../graph/graph.ts';
import { mul, reduceSum, scalar } from '../../graph/ops.ts';
import { gradient } from '../../graph/gradient.ts';
import type { Tensor } from '../../graph/session.ts';
import { feedsOf, openSession, tensor } from '../../graph/session.ts';
import { openRunner } from '../../models/runner.ts';
import type { TrainedBlock } from '../contract.ts';
import type { AutoRoundOptions } from './autoround.ts';
import { autoround } from './autoround.ts';
import { roundedMatrix } from './autoround-grid.ts';
import { roundToNearest } from './rtn.ts';

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
    const options = parse({ ...some, steps: 40 });
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

describe('a matrix that is rounded inside a graph', () => {
  const [rows, columns] = [5, 40];
  const { normal } = random(3);
  const weight = { rows, columns, values: Float32Array.from({ length: rows * columns }, () => normal()) };
  const choice = { bits: 3, group: 16, symmetric: false, range: 'mse', scales: 'float16' } as const;

  async function rounded() {
    const plain = await roundToNearest(weight, choice);
    const { scales, zeros } = plain;
    return { plain, matrix: roundedMatrix('w', { weight, choice, scales, zeros, minmax: true }) };
  }

  it('starts from plain rounding, and is stored as it multiplied', async () => {
    const { plain, matrix } = await rounded();
    const graph = new Graph('inputs');
    matrix.addCodes(graph);
    const session = await openSession(graph, { threads: 1 });
    const { parameters } = matrix;
    const start = matrix.collect(await session.run({ ...feedsOf(graph.weights), ...parameters }));
    expect(start.dense()).toEqual(groupedPacked(plain).dense());
    const moved = Object.fromEntries(
      Object.entries(parameters).map(([name, { dims, data }], k) => [
        name,
        tensor(
          'float32',
          dims,
          (data as Float32Array).map((value, i) => value + 0.3 * Math.sin(i + k)),
        ),
      ]),
    );
    const trained = matrix.collect(await session.run({ ...feedsOf(graph.weights), ...moved }));
    const product = new Graph('inputs');
    const place = (suffix: string, stored: Parameters<Graph['weight']>[1]) => product.weight(suffix, stored);
    const x = product.input('x', 'float32', [columns, columns]);
    product.output('y', matrix.encoding.multiply(x, place));
    const identity = new Float32Array(columns * columns).map((_, i) => (i % (columns + 1) === 0 ? 1 : 0));
    const feeds = {
      x: tensor('float32', [columns, columns], identity),
      ...feedsOf(product.weights),
      ...moved,
    };
    const { y } = await (await openSession(product, { threads: 1 })).run(feeds);
    const dense = trained.dense();
    expect(dense).not.toEqual(start.dense());
    (y.data as Float32Array).forEach((value, i) => {
      expect(value).toBe(dense[(i % rows) * columns + Math.floor(i / rows)]);
    });
  });

  it('passes gradients of its ranges on as if codes stayed as they are', async () => {
    const { matrix } = await rounded();
    const graph = new Graph('inputs');
    const place = (suffix: string, stored: Parameters<Graph['weight']>[1]) => graph.weight(suffix, stored);
    const x = graph.input('x', 'float32', [7, columns]);
    const y = matrix.encoding.multiply(x, place);
    const loss = reduceSum(mul(mul(y, y), scalar(graph, 0.5)), [0, 1]);
    const ends = ['w/low', 'w/high'].map((name) => graph.inputs.find((input) => input.name === name)!);
    gradient(loss, ends).forEach((slope, i) => graph.output(`slope ${i}`, slope));
    const session = await openSession(graph, { threads: 1 });
    const given = Float32Array.from({ length: 7 * columns }, (_, i) => Math.cos(i));
    const feeds = {
      x: tensor('float32', [7, columns], given),
      ...feedsOf(graph.weights),
      ...matrix.parameters,
    };
    const found = await session.run(feeds);
    const group = { start: 0, end: 16 };
    const plain = await roundToNearest(weight, choice);
    const dense = groupedPacked(plain).dense();
    // By hand, for the first group of the first row: W' = s (c - z), where codes at an end of the range move with it.
    const [scale, zero, top] = [plain.scales[0], plain.zeros![0], 7];
    let [toScale, toZero] = [0, 0];
    for (let i = group.start; i < group.end; i++) {
      let slope = 0;
      for (let t = 0; t < 7; t++) {
        let product = 0;
        for (let k = 0; k < columns; k++) product += given[t * columns + k] * dense[k];
        slope += product * given[t * columns + i];
      }
      const exact = weight.values[i] / scale;
      const free = Math.floor(exact + 0.5) + zero;
      const inside = free >= 0 && free <= top;
      toScale += slope * (dense[i] / scale - (inside ? exact : 0));
      toZero -= inside ? 0 : slope * scale;
    }
    const [low, high] = [scale * zero, scale * (top - zero)];
    const wanted = [
      (toScale / top + toZero * (1 / scale - low / scale ** 2 / top)) * low,
      (toScale / top - (toZero * low) / scale ** 2 / top) * high,
    ];
    wanted.forEach((value, i) => {
      const slope = Number(found[`slope ${i}`].data[0]);
      expect(Math.abs(slope - value)).toBeLessThan(1e-3 * (1 + Math.abs(value)));
    });
  });
});
