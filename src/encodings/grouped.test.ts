import { describe, expect, it } from 'vitest';
import { random } from '../base/random.ts';
import { Graph } from '../graph/graph.ts';
import { openSession, tensor, tensorOf } from '../graph/session.ts';
import type { Encoding } from './encoding.ts';
import { encodedBytes } from './encoding.ts';
import { integerGrid } from './grid.ts';
import type { GroupedCodes, GroupSize } from './grouped.ts';
import { grouped, groupSizes } from './grouped.ts';

type Bits = GroupedCodes['bits'];
const rows = 5;

function sample(columns: number, bits: Bits, group: GroupSize, zeroPoints: boolean, seed = 1): GroupedCodes {
  const { integer, uniform } = random(seed);
  const groups = group === -1 ? 1 : Math.ceil(columns / group);
  return {
    rows,
    columns,
    bits,
    group,
    codes: Uint8Array.from({ length: rows * columns }, () => integer(2 ** bits)),
    scales: Float32Array.from({ length: rows * groups }, () => (1 + integer(64)) / 512),
    ...(zeroPoints
      ? { zeros: Uint8Array.from({ length: rows * groups }, () => Math.floor(uniform() * 2 ** bits)) }
      : {}),
  };
}

/** The definition: w = (code - zero) * scale. */
function byDefinition({ columns, bits, group, codes, scales, zeros }: GroupedCodes): Float32Array {
  const size = group === -1 ? columns : group;
  const groups = Math.ceil(columns / size);
  return Float32Array.from(codes, (code, at) => {
    const g = Math.floor(at / columns) * groups + Math.floor((at % columns) / size);
    return (code - (zeros ? zeros[g] : 2 ** (bits - 1))) * scales[g];
  });
}

async function run(encoding: Encoding, weightsAs: 'initializers' | 'inputs', accuracy: 0 | 4 = 0) {
  const [, columns] = encoding.shape;
  const graph = new Graph(weightsAs);
  const x = graph.input('x', 'float32', ['n', columns]);
  const ids = graph.input('ids', 'int64', ['batch', 'time']);
  const place = (
    suffix: string,
    stored: typeof encoding.tensors extends ReadonlyMap<string, infer T> ? T : never,
  ) => graph.weight(`w.${suffix}`, stored);
  graph.output('y', encoding.multiply(x, place, { accuracy }));
  graph.output('rows', encoding.gather(ids, place, 'float32'));
  const session = await openSession(graph, { threads: 1 });
  const identity = new Float32Array(columns * columns);
  for (let i = 0; i < columns; i++) identity[i * columns + i] = 1;
  const order = BigInt64Array.from([4n, 0n, 1n, 3n, 3n, 2n]);
  const feeds: Record<string, ReturnType<typeof tensor>> = {
    x: tensor('float32', [columns, columns], identity),
    ids: tensor('int64', [2, 3], order),
  };
  if (weightsAs === 'inputs') {
    for (const [name, { stored }] of graph.weights) feeds[name] = tensorOf(stored);
  }
  const { y, rows: found } = await session.run(feeds);
  await session.release();
  return { y: y.data as Float32Array, rows: found.data as Float32Array, shape: found.dims, order };
}

const cases = ([2, 3, 4, 8] as const).flatMap((bits) =>
  ([...groupSizes, -1] as const).flatMap((group) =>
    [false, true].flatMap((zeroPoints) =>
      [172, 100, 33].map((columns) => ({ bits, group, zeroPoints, columns })),
    ),
  ),
);

describe('grouped integers', () => {
  it.each(cases)(
    '%o: dense values, product and lookup agree',
    async ({ bits, group, zeroPoints, columns }) => {
      const parts = sample(columns, bits, group, zeroPoints);
      const encoding = grouped(parts);
      const values = encoding.dense();
      expect(values).toEqual(byDefinition(parts));

      let bytes = 0;
      for (const stored of encoding.tensors.values()) {
        expect(stored.bytes().byteLength).toBe(stored.byteLength);
        bytes += stored.bytes().byteLength;
      }
      expect(encodedBytes(encoding)).toBe(bytes);

      for (const weightsAs of ['initializers', 'inputs'] as const) {
        const { y, rows: found, shape, order } = await run(encoding, weightsAs);
        let worst = 0;
        for (let row = 0; row < rows; row++) {
          for (let column = 0; column < columns; column++) {
            worst = Math.max(worst, Math.abs(y[column * rows + row] - values[row * columns + column]));
          }
        }
        expect(worst, weightsAs).toBeLessThan(1e-6);
        expect(shape).toEqual([2, 3, columns]);
        order.forEach((row, i) => {
          const expected = values.subarray(Number(row) * columns, (Number(row) + 1) * columns);
          expect(found.subarray(i * columns, (i + 1) * columns), weightsAs).toEqual(expected);
        });
      }
    },
  );
});
void integerGrid;
