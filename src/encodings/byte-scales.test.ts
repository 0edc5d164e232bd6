import { describe, expect, it } from 'vitest';
import { random } from '../base/random.ts';
import { Graph } from '../graph/graph.ts';
import { feedsOf, openSession, tensor } from '../graph/session.ts';
import { groupedInBytes } from './byte-scales.ts';
import type { Place } from './encoding.ts';
import { encodedBytes } from './encoding.ts';
import { integerGrid } from './grid.ts';
import type { PackedCodes } from './grouped.ts';
import { groupedPacked } from './grouped.ts';

const [rows, columns, group] = [5, 64, 16] as const;
const { normal, integer } = random(3);
const grid = integerGrid({ bits: 4, symmetric: true, range: 'minmax', scales: 'byte' });
const parts: PackedCodes = {
  rows,
  columns,
  bits: 4,
  group,
  packed: Uint8Array.from({ length: (rows * columns) / 2 }, () => integer(256)),
  scales: Float32Array.from(
    { length: (rows * columns) / group },
    () => grid.fit(Float32Array.from({ length: group }, normal)).scale,
  ),
};

describe('scales in bytes', () => {
  const encoding = groupedInBytes(parts);

  it('are those of the grid, at half the bytes', () => {
    const wide = groupedPacked(parts);
    expect(encoding.dense()).toEqual(wide.dense());
    expect(encodedBytes(wide) - encodedBytes(encoding)).toBe(parts.scales.length);
    expect(encoding.label).toBe('4-bit, group 16, 8-bit scales');
  });

  it.each(['initializers', 'inputs'] as const)(
    'as %s multiply and are looked up as their values say',
    async (weightsAs) => {
      const graph = new Graph(weightsAs);
      const place: Place = (suffix, stored) => graph.weight(suffix, stored);
      graph.output('y', encoding.multiply(graph.input('x', 'float32', ['n', columns]), place));
      graph.output('rows', encoding.gather(graph.input('ids', 'int64', ['k']), place, 'float32'));
      const session = await openSession(graph, { threads: 1 });
      const identity = Float32Array.from({ length: columns ** 2 }, (_, i) => Number(i % (columns + 1) === 0));
      const result = await session.run({
        x: tensor('float32', [columns, columns], identity),
        ids: tensor('int64', [2], BigInt64Array.of(4n, 1n)),
        ...(weightsAs === 'inputs' ? feedsOf(graph.weights) : {}),
      });
      await session.release();
      const dense = encoding.dense();
      const y = result.y.data as Float32Array;
      dense.forEach((value, at) => {
        expect(y[(at % columns) * rows + Math.floor(at / columns)]).toBeCloseTo(value, 5);
      });
      const row = (index: number) => [...dense.subarray(index * columns, (index + 1) * columns)];
      expect([...(result.rows.data as Float32Array)]).toEqual([...row(4), ...row(1)]);
    },
  );

  it('stay in float16 where one of them needs more digits', () => {
    const scales = parts.scales.with(3, 0.011);
    expect(groupedInBytes({ ...parts, scales }).label).toBe('4-bit, group 16');
  });
});
