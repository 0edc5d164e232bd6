import { describe, expect, it } from 'vitest';
import { random } from '../base/random.ts';
import { Graph } from '../graph/graph.ts';
import { feedsOf, openSession, tensor } from '../graph/session.ts';
import type { SignPlane } from './binary.ts';
import { binary } from './binary.ts';
import type { Encoding } from './encoding.ts';
import { encodedBytes } from './encoding.ts';
import type { GroupSize } from './grouped.ts';
import { groupsOf } from './grouped.ts';
import { restore } from './restore.ts';

const rows = 5;
const { integer, uniform } = random(4);

function sample(columns: number, group: GroupSize, count: number) {
  const plane = (): SignPlane => ({
    signs: Uint8Array.from({ length: rows * columns }, () => integer(2)),
    scales: Float32Array.from({ length: rows * groupsOf({ columns, group }) }, uniform),
  });
  return { rows, columns, group, planes: Array.from({ length: count }, plane) };
}

/** w = a s + b t, in float32. */
function byDefinition({ columns, group, planes }: ReturnType<typeof sample>): Float32Array {
  const groups = groupsOf({ columns, group });
  const of = ({ signs, scales }: SignPlane, at: number) => {
    const g = Math.floor(at / columns) * groups + (group === -1 ? 0 : Math.floor((at % columns) / group));
    return (2 * signs[at] - 1) * scales[g];
  };
  return Float32Array.from({ length: rows * columns }, (_, at) =>
    planes.reduce((sum, plane) => Math.fround(sum + of(plane, at)), 0),
  );
}

async function run(encoding: Encoding, weightsAs: 'initializers' | 'inputs', accuracy?: 0) {
  const [, columns] = encoding.shape;
  const graph = new Graph(weightsAs);
  const x = graph.input('x', 'float32', ['n', columns]);
  const ids = graph.input('ids', 'int64', ['n']);
  const place = (suffix: string, part: Parameters<Graph['weight']>[1]) => graph.weight(`w.${suffix}`, part);
  graph.output('y', encoding.multiply(x, place, { accuracy }));
  graph.output('rows', encoding.gather(ids, place, 'float32'));
  const session = await openSession(graph, { threads: 1 });
  const identity = Float32Array.from({ length: columns * columns }, (_, i) =>
    Math.floor(i / columns) === i % columns ? 1 : 0,
  );
  const { y, rows: found } = await session.run({
    x: tensor('float32', [columns, columns], identity),
    ids: tensor('int64', [2], BigInt64Array.of(4n, 1n)),
    ...(weightsAs === 'inputs' ? feedsOf(graph.weights) : {}),
  });
  await session.release();
  const ops = graph.nodes.map(({ op }) => op);
  return { y: y.data as Float32Array, found: found.data as Float32Array, ops };
}

const cases = ([16, 64, -1] as const).flatMap((group) =>
  [64, 70].flatMap((columns) => [1, 2].map((count) => [group, columns, count] as const)),
);

describe('planes of signs', () => {
  it.each(cases)('group %i, rows of %i, planes: %i', async (group, columns, count) => {
    const parts = sample(columns, group, count);
    const encoding = binary(parts);
    const expected = byDefinition(parts);
    expect(encoding.dense()).toEqual(expected);
    for (const weightsAs of ['initializers', 'inputs'] as const) {
      const { y, found } = await run(encoding, weightsAs);
      const product = Float32Array.from(
        { length: columns * rows },
        (_, at) => expected[(at % rows) * columns + Math.floor(at / rows)],
      );
      expect(y).toEqual(product);
      const row = (index: number) => [...expected.subarray(index * columns, (index + 1) * columns)];
      expect([...found]).toEqual([...row(4), ...row(1)]);
    }
  });

  it('store a bit for each sign', () => {
    const parts = sample(256, 64, 2);
    expect(encodedBytes(binary(parts))).toBe(2 * rows * (256 / 8 + 4 * 4));
  });

  it.each([16, 64] as const)(
    'one plane in groups of %i is, in files, a product of two bits',
    async (group) => {
      const given = sample(70, group, 1);
      const { y, ops } = await run(binary(given), 'initializers', 0);
      expect(ops).toContain('MatMulNBits');
      const expected = byDefinition(given);
      y.forEach((value, at) =>
        expect(value).toBeCloseTo(expected[(at % rows) * 70 + Math.floor(at / rows)], 5),
      );
    },
  );

  it.each([
    ['too few signs', { signs: new Uint8Array(1) }, /320 signs/],
    ['too few scales', { scales: new Float32Array(1) }, /10 scales/],
    ['scales that are not finite', { scales: new Float32Array(10).fill(Number.NaN) }, /finite scales/],
  ])('refuse %s', (_, spoilt, message) => {
    const { planes, ...sizes } = sample(64, 32, 1);
    expect(() => binary({ ...sizes, planes: [{ ...planes[0], ...spoilt }] })).toThrow(message);
  });

  it('refuse what is not theirs', () => {
    const whole = binary(sample(64, 32, 2));
    expect(() => restore({ ...whole, description: { kind: 'binary', planes: 3, group: 32 } })).toThrow(
      /1 or 2/,
    );
    expect(() => restore({ ...whole, description: { kind: 'binary', planes: 2, group: 33 } })).toThrow(
      /groups of/,
    );
    expect(() => restore({ ...whole, description: { kind: 'binary', planes: 1, group: 32 } })).toThrow(
      /no other/,
    );
    expect(() => restore({ ...whole, description: { kind: 'binary', planes: 2, group: 16 } })).toThrow(
      /scales0/,
    );
  });
});
