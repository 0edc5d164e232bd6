import { describe, expect, it } from 'vitest';
import { LapidaryError } from '../../base/errors.ts';
import { ggmlType } from '../../base/ggml.ts';
import { random } from '../../base/random.ts';
import type { Stored } from '../../base/tensor.ts';
import { stored } from '../../base/tensor.ts';
import { Graph } from '../../graph/graph.ts';
import { feedsOf, openSession, tensor } from '../../graph/session.ts';
import { encodedBytes } from '../encoding.ts';
import { blockEncoding, blockTypeNamed, blockTypes, quantizeTo } from './index.ts';

const [rows, columns] = [6, 512];
const { normal } = random(5);
const values = Float32Array.from({ length: rows * columns }, () => 0.05 * normal());
const names = [...blockTypes.byName.keys()];

/** How far a value may lie from its code's: of its block's largest size. */
const coarsest: Readonly<Record<string, number>> = {
  TQ1_0: 0.5,
  TQ2_0: 0.5,
  Q2_K: 0.35,
  Q3_K: 0.2,
  MXFP4: 0.25,
};

describe.each(names)('a matrix in %s', (name) => {
  it('stores the bytes that the type takes, and values near those it was made of', async () => {
    const encoding = await quantizeTo({ name }, { rows, columns, values });
    const { weights, bytes } = ggmlType(name);
    expect(encoding.label).toBe(name);
    expect(encodedBytes(encoding)).toBe((rows * columns * bytes) / weights);
    const back = encoding.dense();
    const most = values.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
    const worst = back.reduce((a, value, i) => Math.max(a, Math.abs(value - values[i])), 0);
    expect(worst / most).toBeLessThan(coarsest[name] ?? 0.15);
  });

  it.each(['initializers', 'inputs'] as const)('multiplies and looks up by its values, as %s', async (as) => {
    const encoding = await quantizeTo({ name }, { rows, columns, values });
    const graph = new Graph(as);
    const x = graph.input('x', 'float32', ['n', columns]);
    const ids = graph.input('ids', 'int64', ['k']);
    const place = (suffix: string, part: Stored) => graph.weight(`w.${suffix}`, part);
    graph.output('y', encoding.multiply(x, place));
    graph.output('rows', encoding.gather(ids, place, 'float32'));
    const session = await openSession(graph);
    const identity = new Float32Array(columns * columns);
    for (let i = 0; i < columns; i++) identity[i * columns + i] = 1;
    const { y, rows: found } = await session.run({
      x: tensor('float32', [columns, columns], identity),
      ids: tensor('int64', [2], BigInt64Array.of(5n, 0n)),
      ...(as === 'inputs' ? feedsOf(graph.weights) : {}),
    });
    await session.release();
    const dense = encoding.dense();
    const transposed = dense.map((_, at) => dense[(at % rows) * columns + Math.floor(at / rows)]);
    const from = (row: number) => dense.subarray(row * columns, (row + 1) * columns);
    // Zeros have no sign here.
    const unsigned = (all: unknown) => (all as Float32Array).map((value) => value + 0);
    expect(unsigned(y.data)).toEqual(unsigned(transposed));
    expect(unsigned(found.data)).toEqual(unsigned(Float32Array.of(...from(5), ...from(0))));
  });
});

describe('types taken apart', () => {
  it.each(names)('%s: codes and parameters pack into the same bytes, and mean the same values', (name) => {
    const type = blockTypeNamed(name);
    const blocks = type.quantize(values, columns);
    const { parameters, codes } = type.unpack(blocks);
    expect(type.pack(codes, parameters)).toEqual(blocks);
    const meant = Float32Array.from(codes, (code, i) => {
      const part = Math.floor(i / type.part);
      return Math.fround(parameters.scales[part] * type.levels[code]) - parameters.minima[part];
    });
    expect(type.dequantize(blocks)).toEqual(meant);
  });

  it.each(names)('%s: rounding to fitted parameters loses no more than quantizing does', (name) => {
    const type = blockTypeNamed(name);
    const fitted = type.fitBlocks(values, columns);
    const codes = Uint8Array.from(values, (value, i) => {
      const part = Math.floor(i / type.part);
      return type.round(value, fitted.scales[part], fitted.minima[part]);
    });
    const loss = (blocks: Uint8Array) =>
      type.dequantize(blocks).reduce((sum, value, i) => sum + (value - values[i]) ** 2, 0);
    expect(loss(type.pack(codes, fitted))).toBeLessThanOrEqual(loss(fitted.blocks) * (1 + 1e-6));
  });

  const heeding = names.filter((name) => !/^(Q8_0|TQ._0|MXFP4)$/.test(name));
  it.each(heeding)('%s: importance moves the error to the columns that count less', (name) => {
    const type = blockTypeNamed(name);
    const importance = Float32Array.from({ length: columns }, (_, i) => (i % 4 === 0 ? 100 : 0.01));
    const loss = (blocks: Uint8Array) =>
      type
        .dequantize(blocks)
        .reduce((sum, value, i) => sum + importance[i % columns] * (value - values[i]) ** 2, 0);
    expect(loss(type.quantize(values, columns, importance))).toBeLessThan(
      loss(type.quantize(values, columns)),
    );
  });
});

describe('what cannot be', () => {
  it('rows that are no whole blocks', () => {
    expect(() => blockTypeNamed('Q4_K').quantize(values, 128)).toThrow(LapidaryError);
    expect(() => blockTypeNamed('Q4_0').quantize(values.subarray(1), 32)).toThrow('whole rows');
  });

  it('bytes that are no whole blocks, or too few for a shape', () => {
    expect(() => blockTypeNamed('Q6_K').dequantize(new Uint8Array(211))).toThrow('a multiple of 210');
    const blocks = stored('uint8', [1, 144], new Uint8Array(144));
    expect(() => blockEncoding({ name: 'Q4_K' }, [2, 256], blocks)).toThrow('288 bytes');
  });

  it('importance of another length than a row', () => {
    expect(() => blockTypeNamed('Q4_K').quantize(values, columns, new Float32Array(256))).toThrow(
      '512 values',
    );
  });

  it('a type that is none of these', () => {
    expect(() => blockTypeNamed('IQ2_XS')).toThrow('Q4_K');
  });
});
