import { describe, expect, it } from 'vitest';
import { random } from '../base/random.ts';
import type { Stored } from '../base/tensor.ts';
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

/** What a graph makes of tokens [n, columns]. */
async function productsOf(graph: Graph, x: Float32Array): Promise<Float32Array> {
  const session = await openSession(graph, { threads: 1 });
  const { y } = await session.run({ x: tensor('float32', [x.length / columns, columns], x) });
  await session.release();
  return y.data as Float32Array;
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
        if (bits === 4 || bits === 3 || (bits === 2 && width === 4))
          expect({ width, level }).toEqual({ width: 4, level: asked });
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
      (await productsOf(graphOf(encoding, 0), x)).forEach((found, at) => {
        const [token, row] = [Math.floor(at / rows), at % rows];
        let sum = 0;
        for (let i = 0; i < columns; i++) sum += x[token * columns + i] * values[row * columns + i];
        expect(found).toBeCloseTo(sum, 4);
      });
    },
  );

  it.each(cases.filter(({ bits, zeroPoints }) => (bits === 2 || bits === 8) && !zeroPoints))(
    '$bits bits, group $group, floats wanted: some 200 times nearer than inputs of 8 bits',
    async (each) => {
      const encoding = sample(each.bits, each.group, each.zeroPoints);
      const { normal } = random(7);
      const x = Float32Array.from({ length: 3 * columns }, (_, at) => normal() * (at % 50 === 0 ? 20 : 1));
      x.fill(0, 0, 64);
      const exact = await productsOf(graphOf(encoding), x);
      const [split, rounded] = [await errorAt(0), await errorAt(4)];
      // Two bits in blocks without a product of their own stand in four, whose products are exact.
      expect(split).toBeLessThan(rounded / 100);
      expect(rounded).toBeGreaterThan(1e-3);

      async function errorAt(accuracy: 0 | 4) {
        const found = await productsOf(graphOf(encoding, accuracy), x);
        const squares = (of: Float32Array) => of.reduce((sum, value) => sum + value ** 2, 0);
        return Math.sqrt(squares(found.map((value, at) => value - exact[at])) / squares(exact));
      }
    },
  );

  it('split an input once for all products that are fed it', () => {
    const graph = new Graph();
    const x = graph.input('x', 'float32', ['n', columns]);
    for (const name of ['a', 'b']) {
      const place = (suffix: string, stored: Stored) => graph.weight(`${name}.${suffix}`, stored);
      graph.output(name, sample(8, 32, false).multiply(x, place, { accuracy: 0 }));
    }
    const products = graph.nodes.filter(({ op }) => op === 'MatMulNBits');
    expect(new Set(products.map(({ inputs }) => inputs[0])).size).toBe(1);
  });

  it('gives whole rows of two bits blocks that it is fast at', () => {
    expect(widestBlock(2)).toBe(128);
    expect(sample(2, -1, false).tensors.get('codes')!.shape).toEqual([rows, 5, 16]);
  });
});
