import { describe, expect, it } from 'vitest';
import { random } from '../base/random.ts';
import { Graph } from '../graph/graph.ts';
import { openSession, tensor } from '../graph/session.ts';
import { widestBlock } from './block-product.ts';
import type { Encoding } from './encoding.ts';
import { grouped, groupSizes } from './grouped.ts';

const [rows, columns] = [6, 320];

function sample(bits: 2 | 3 | 4 | 8, group: (typeof groupSizes)[number] | -1, zeroPoints: boolean): Encoding {
  const { integer } = random(bits);
  const count = rows * (group === -1 ? 1 : Math.ceil(columns / group));
  return grouped({
    rows,
    columns,
    bits,
    group,
    codes: Uint8Array.from({ length: rows * columns }, () => integer(2 ** bits)),
    scales: Float32Array.from({ length: count }, () => (1 + integer(64)) / 512),
    zeros: zeroPoints ? Uint8Array.from({ length: count }, () => integer(2 ** bits)) : undefined,
  });
}

function graphOf(encoding: Encoding, accuracy?: 0 | 4) {
  const graph = new Graph();
  const x = graph.input('x', 'float32', ['n', columns]);
  graph.output(
    'y',
    encoding.multiply(x, (suffix, stored) => graph.weight(suffix, stored), { accuracy }),
  );
  return graph;
}

const cases = ([2, 3, 4, 8] as const).flatMap((bits) =>
  ([...groupSizes, -1] as const).flatMap((group) =>
    [false, true].map((zeroPoints) => ({ bits, group, zeroPoints })),
  ),
);

describe('products with codes in blocks', () => {
  it.each(cases)(
    '$bits bits, group $group: a form that the engine is fast at',
    ({ bits, group, zeroPoints }) => {
      const encoding = sample(bits, group, zeroPoints);
      const exact = graphOf(encoding).nodes.find(({ op }) => op === 'MatMulNBits')!;
      expect(exact.attributes.accuracy_level).toBe(0);
      for (const asked of [0, 4] as const) {
        const product = graphOf(encoding, asked).nodes.find(({ op }) => op === 'MatMulNBits')!;
        const { bits: width, block_size: block, accuracy_level: level } = product.attributes;
        if (width === 2) expect([32, 64, 128]).toContain(block);
        if (width !== 4) expect(level).toBe(4);
        if (bits === 4 || bits === 3) expect({ width, level }).toEqual({ width: 4, level: asked });
      }
    },
  );

  it.each(cases.filter(({ bits, group }) => bits === 2 && (group === 16 || group === 256)))(
    'two bits in four, group $group, zero points $zeroPoints: the product of what was stored',
    async ({ group, zeroPoints }) => {
      const encoding = sample(2, group, zeroPoints);
      const values = encoding.dense();
      const { normal } = random(9);
      const x = Float32Array.from({ length: 2 * columns }, () => normal());
      const session = await openSession(graphOf(encoding, 0), { threads: 1 });
      const { y } = await session.run({ x: tensor('float32', [2, columns], x) });
      await session.release();
      (y.data as Float32Array).forEach((found, at) => {
        const [token, row] = [Math.floor(at / rows), at % rows];
        let sum = 0;
        for (let i = 0; i < columns; i++) sum += x[token * columns + i] * values[row * columns + i];
        expect(found).toBeCloseTo(sum, 4);
      });
    },
  );

  it('gives whole rows of two bits blocks that it is fast at', () => {
    expect(widestBlock(2)).toBe(128);
    expect(sample(2, -1, false).tensors.get('codes')!.shape).toEqual([rows, 5, 16]);
  });
});
