import { describe, expect, it } from 'vitest';
import { LapidaryError } from '../base/errors.ts';
import { random } from '../base/random.ts';
import { Graph } from '../graph/graph.ts';
import { feedsOf, openSession, tensor } from '../graph/session.ts';
import type { KeptWeights } from './composite.ts';
import { withColumns, withSparse } from './composite.ts';
import { denseValues } from './dense.ts';
import type { Encoding, Place } from './encoding.ts';
import { encodedBytes } from './encoding.ts';
import { grouped } from './grouped.ts';
import { integers } from './integer.ts';

const [rows, columns, tokens] = [6, 40, 3];
const { normal, integer } = random(8);
const normals = (length: number) => Float32Array.from({ length }, normal);
const x = normals(tokens * columns);
const kept = Int32Array.of(0, 7, 39);

const bases: Readonly<Record<string, () => Encoding>> = {
  'grouped integers': () =>
    grouped({
      rows,
      columns,
      bits: 4,
      group: 16,
      codes: Uint8Array.from({ length: rows * columns }, () => integer(16)),
      scales: normals(rows * 3),
    }),
  'dense values': () => denseValues(normals(rows * columns), rows, columns),
};

/** Some rows are full, the first and the fourth have none. */
function weights(): KeptWeights {
  const counts = [0, 3, columns, 0, 1, 2];
  const starts = new Int32Array(rows + 1);
  counts.forEach((count, row) => (starts[row + 1] = starts[row] + count));
  const columnsOf = (count: number) =>
    count === columns ? [...Array(columns).keys()] : [5, 20, 39].slice(0, count);
  return {
    starts,
    columns: Int32Array.from(counts.flatMap(columnsOf)),
    values: normals(starts[rows]),
  };
}

async function run(encoding: Encoding, weightsAs: 'initializers' | 'inputs') {
  const graph = new Graph(weightsAs);
  const place: Place = (suffix, stored) => graph.weight(`w.${suffix}`, stored);
  graph.output('y', encoding.multiply(graph.input('x', 'float32', ['batch', 'time', columns]), place));
  graph.output('rows', encoding.gather(graph.input('ids', 'int64', ['a', 'b']), place, 'float32'));
  const session = await openSession(graph, { threads: 1 });
  const result = await session.run({
    x: tensor('float32', [1, tokens, columns], x),
    ids: tensor('int64', [2, 3], BigInt64Array.of(0n, 5n, 2n, 2n, 4n, 3n)),
    ...(weightsAs === 'inputs' ? feedsOf(graph.weights) : {}),
  });
  await session.release();
  return { y: result.y, rows: result.rows };
}

/** x times the dense values of a matrix. */
const productOf = (dense: Float32Array, inputs: Float32Array = x) =>
  Float32Array.from({ length: tokens * rows }, (_, at) => {
    let sum = 0;
    for (let i = 0; i < columns; i++)
      sum += inputs[Math.floor(at / rows) * columns + i] * dense[(at % rows) * columns + i];
    return sum;
  });

function expectClose(found: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number): void {
  expect(found.length).toBe(expected.length);
  for (let i = 0; i < found.length; i++)
    expect(Math.abs(found[i] - expected[i]), `element ${i}`).toBeLessThan(tolerance);
}

const composites: Readonly<Record<string, (base: Encoding) => Encoding>> = {
  'whole columns': (base) => withColumns(base, { columns: kept, values: normals(kept.length * rows) }),
  'no column': (base) => withColumns(base, { columns: new Int32Array(0), values: new Float32Array(0) }),
  'single weights': (base) => withSparse(base, weights()),
  'no weight': (base) =>
    withSparse(base, {
      starts: new Int32Array(rows + 1),
      columns: new Int32Array(0),
      values: new Float32Array(0),
    }),
};
const cases = Object.keys(bases).flatMap((base) => Object.keys(composites).map((what) => ({ base, what })));

describe.each(cases)('$base with $what kept', ({ base, what }) => {
  const encoding = composites[what](bases[base]());

  it.each(['initializers', 'inputs'] as const)(
    'as %s multiply and are looked up as their values say',
    async (weightsAs) => {
      const { y, rows: found } = await run(encoding, weightsAs);
      const dense = encoding.dense();
      expect(y.dims).toEqual([1, tokens, rows]);
      expectClose(y.data as Float32Array, productOf(dense), 1e-4);
      expect(found.dims).toEqual([2, 3, columns]);
      const row = (index: number) => [...dense.subarray(index * columns, (index + 1) * columns)];
      expectClose(found.data as Float32Array, [0, 5, 2, 2, 4, 3].flatMap(row), 1e-5);
    },
  );

  it('count the bytes that they store', () => {
    const stored = [...encoding.tensors.values()].reduce((sum, each) => sum + each.bytes().byteLength, 0);
    expect(encodedBytes(encoding)).toBe(stored);
  });
});

describe('columns that are kept', () => {
  it('cost their values and where they stand', () => {
    const base = bases['dense values']();
    const encoding = composites['whole columns'](base);
    expect(encodedBytes(encoding) - encodedBytes(base)).toBe(3 * 4 + 3 * rows * 2);
    expect(encoding.label).toBe('float32, columns float16');
  });

  it('are not seen by a base that rounds its inputs', async () => {
    const base = integers({
      rows,
      columns,
      codes: Int8Array.from({ length: rows * columns }, () => integer(255) - 127),
      scales: normals(rows).map((value) => Math.abs(value) / 127),
    });
    const codes = base.dense().map((value, at) => (kept.includes(at % columns) ? 0 : value));
    const values = normals(kept.length * rows);
    const encoding = withColumns(base, { columns: kept, values });
    expect(encoding.inputBits).toBe(8);
    // A large input in a kept column would else cost all others their bits.
    const loud = x.map((value, at) => (at % columns === 7 ? 1000 * value : value));
    const graph = new Graph();
    graph.output(
      'y',
      encoding.multiply(graph.input('x', 'float32', ['n', columns]), (suffix, stored) =>
        graph.weight(suffix, stored),
      ),
    );
    const session = await openSession(graph, { threads: 1 });
    const { y } = await session.run({ x: tensor('float32', [tokens, columns], loud) });
    await session.release();
    const expected = productOf(codes, loud);
    const dense = encoding.dense();
    for (let token = 0; token < tokens; token++) {
      for (let row = 0; row < rows; row++) {
        for (const column of kept)
          expected[token * rows + row] +=
            loud[token * columns + column] *
            (dense[row * columns + column] - base.dense()[row * columns + column]);
      }
    }
    expectClose(y.data as Float32Array, expected, 0.3);
  });

  it('are refused where they are none of the matrix, or not in order', () => {
    const base = bases['dense values']();
    const keep = (...columns: number[]) => {
      return () =>
        withColumns(base, { columns: Int32Array.from(columns), values: normals(rows * columns.length) });
    };
    for (const wrong of [keep(40), keep(-1), keep(3, 3), keep(4, 2)]) expect(wrong).toThrow(LapidaryError);
    expect(() => withColumns(base, { columns: kept, values: normals(2) })).toThrow(LapidaryError);
  });
});

describe('single weights that are kept', () => {
  it('cost four bytes each, and four a row', () => {
    const base = bases['dense values']();
    const { starts, columns, values } = weights();
    const encoding = withSparse(base, { starts, columns, values });
    expect(encodedBytes(encoding) - encodedBytes(base)).toBe(4 * values.length + 4 * (rows + 1));
    expect(encoding.label).toBe('float32, 19% float16');
  });

  it('are refused where rows and columns do not agree', () => {
    const base = bases['dense values']();
    const { starts, columns, values } = weights();
    const wrong: readonly KeptWeights[] = [
      { starts: starts.map((start) => start + 1), columns, values },
      { starts: starts.toReversed(), columns, values },
      { starts: starts.subarray(1), columns, values },
      { starts, columns: columns.map(() => 3), values },
      { starts, columns: columns.map((column) => column + 1), values },
      { starts, columns, values: values.subarray(1) },
    ];
    for (const parts of wrong) expect(() => withSparse(base, parts)).toThrow(LapidaryError);
  });
});
