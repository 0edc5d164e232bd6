/** What every linear method promises, whichever it is. */

import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { LapidaryError } from '../base/errors.ts';
import { random } from '../base/random.ts';
import type { Encoding } from '../encodings/encoding.ts';
import { encodedBytes } from '../encodings/encoding.ts';
import { Graph } from '../graph/graph.ts';
import { openSession, tensor } from '../graph/session.ts';
import type { LinearMethod } from '../contract/method.ts';
import type { Statistic } from '../contract/statistic.ts';
import { findMethod, methods } from './index.ts';

const [rows, tokens] = [20, 400];

/** A layer, and inputs that it sees; some columns are larger. */
function layer(columns: number) {
  const { normal } = random(11);
  const x = Float32Array.from({ length: tokens * columns }, (_, at) => (1 + (at % 7)) * normal());
  const gram = new Float32Array(columns * columns);
  const squares = new Float32Array(columns);
  for (let i = 0; i < columns; i++) {
    for (let j = 0; j < columns; j++) {
      for (let t = 0; t < tokens; t++) gram[i * columns + j] += x[t * columns + i] * x[t * columns + j];
    }
    squares[i] = gram[i * columns + i];
  }
  const values = Float32Array.from({ length: rows * columns }, () => 0.05 * normal());
  const [sizes, peaks] = [new Float32Array(columns), new Float32Array(columns)];
  x.forEach((value, at) => {
    sizes[at % columns] += Math.abs(value);
    peaks[at % columns] = Math.max(peaks[at % columns], Math.abs(value));
  });
  const statistic = (): Statistic => ({ tokens, squares, sizes, peaks, gram: gram.slice() });
  const compress = (method: LinearMethod, options: unknown, given = values.slice()) =>
    method.compress({ rows, columns, values: given }, statistic(), options);
  return { columns, values, x, compress };
}
type Layer = ReturnType<typeof layer>;
/** Of an odd width, and of whole blocks of every kind. */
const layers = [layer(172), layer(256)];

/** Defaults, and every option at each of its choices or at both ends of its range, the others at their defaults. */
function extremes(method: LinearMethod): unknown[] {
  const schema = z.toJSONSchema(method.options, { io: 'input' });
  const found: unknown[] = [{}];
  for (const [name, property] of Object.entries(schema.properties ?? {})) {
    for (const value of choicesOf(property as Json)) found.push({ [name]: value });
  }
  return found;
}

interface Json {
  readonly type?: string;
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly anyOf?: readonly Json[];
  readonly minimum?: number;
  readonly maximum?: number;
}

function choicesOf({ type, enum: listed, const: only, anyOf, minimum, maximum }: Json): readonly unknown[] {
  if (anyOf) return anyOf.flatMap(choicesOf);
  if (listed) return listed;
  if (only !== undefined) return [only];
  if (type === 'boolean') return [false, true];
  return [minimum, maximum].filter((end) => end !== undefined);
}

async function product({ columns, x }: Layer, encoding: Encoding): Promise<Float32Array> {
  const graph = new Graph();
  const input = graph.input('x', 'float32', ['n', columns]);
  graph.output(
    'y',
    encoding.multiply(input, (suffix, stored) => graph.weight(suffix, stored)),
  );
  const session = await openSession(graph, { threads: 1 });
  const { y } = await session.run({ x: tensor('float32', [tokens, columns], x) });
  await session.release();
  return y.data as Float32Array;
}

/** How far rounding moves an input at most: half the distance of two codes, where the largest input has the last one. */
function halfCode({ x }: Layer, { inputBits }: Encoding): number {
  if (inputBits === undefined) return 0;
  const largest = x.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return (0.5 * largest) / (2 ** (inputBits - 1) - 1);
}

function squaredOutputError({ columns, values, x }: Layer, found: Float32Array): number {
  let sum = 0;
  for (let t = 0; t < tokens; t++) {
    for (let row = 0; row < rows; row++) {
      let difference = 0;
      for (let i = 0; i < columns; i++) {
        difference += x[t * columns + i] * (found[row * columns + i] - values[row * columns + i]);
      }
      sum += difference * difference;
    }
  }
  return sum;
}

const linear = methods.filter((method): method is LinearMethod => method.shape === 'linear');
const cases = linear.flatMap((method) =>
  layers.map((layer) => ({ name: method.name, width: layer.columns, method, layer })),
);

describe.each(cases)('$name, rows of $width', ({ method, layer }) => {
  const { columns, x, compress } = layer;

  it.each(extremes(method))(
    'with %o: shape kept, finite, bytes as reported, graph as dense',
    async (some) => {
      const encoding = await compress(method, method.options.parse(some));
      expect(encoding.shape).toEqual([rows, columns]);
      const dense = encoding.dense();
      expect(dense.length).toBe(rows * columns);
      expect(dense.every(Number.isFinite)).toBe(true);
      const stored = [...encoding.tensors.values()].reduce((sum, each) => sum + each.bytes().byteLength, 0);
      expect(encodedBytes(encoding)).toBe(stored);
      const y = await product(layer, encoding);
      const half = halfCode(layer, encoding);
      let worst = 0;
      for (let t = 0; t < tokens; t++) {
        for (let row = 0; row < rows; row++) {
          let [expected, rounding] = [0, 0];
          for (let i = 0; i < columns; i++) {
            expected += x[t * columns + i] * dense[row * columns + i];
            rounding += half * Math.abs(dense[row * columns + i]);
          }
          worst = Math.max(worst, Math.abs(y[t * rows + row] - expected) - rounding);
        }
      }
      expect(worst).toBeLessThan(1e-3);
    },
  );

  it('gives the same bytes for the same input', async () => {
    const options = method.options.parse({});
    const [first, second] = [await compress(method, options), await compress(method, options)];
    for (const [name, stored] of first.tensors)
      expect(second.tensors.get(name)!.bytes()).toEqual(stored.bytes());
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY])('refuses a weight of %d, by its place', async (wrong) => {
    const given = layer.values.slice();
    given[columns + 2] = wrong;
    const place = /weights are not all finite\n(.*\n)*.*in row 1, column 2/;
    await expect(compress(method, method.options.parse({}), given)).rejects.toThrow(place);
  });

  it('loses no more than plain rounding to the same codes', async () => {
    const options = method.options.parse({});
    const weight = { rows, columns, values: layer.values.slice() };
    const nearest = findMethod('rtn') as LinearMethod;
    const baseline = method.plain
      ? await method.plain(weight, options)
      : await compress(nearest, nearest.options.parse({}));
    const found = await compress(method, options);
    const error = (encoding: Encoding) => squaredOutputError(layer, encoding.dense());
    expect(error(found)).toBeLessThanOrEqual(error(baseline));
  });

  it('has a line of help and a default for every option', () => {
    const { properties = {} } = z.toJSONSchema(method.options, { io: 'input' });
    for (const [name, property] of Object.entries(properties)) {
      expect((property as { description?: string }).description, name).toBeTruthy();
      const { default: value, description } = property as { default?: unknown; description?: string };
      expect(value ?? /Left out: .+/.exec(description!), name).not.toBeNull();
    }
    expect(() => method.options.parse({ bitz: 4 })).toThrow();
  });
});

describe('findMethod', () => {
  it('finds a method by its name', () => {
    for (const method of methods) expect(findMethod(method.name)).toBe(method);
  });

  it('names the nearest one otherwise', () => {
    expect(() => findMethod('gtpq')).toThrow(LapidaryError);
    expect(() => findMethod('gtpq')).toThrow(/did you mean "gptq"/);
    expect(() => findMethod('something else')).toThrow(/expected: .*gptq.*rtn/);
  });
});
