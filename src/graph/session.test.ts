import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LapidaryError } from '../base/errors.ts';
import type { Stored } from '../base/tensor.ts';
import { stored } from '../base/tensor.ts';
import { readOnnx } from '../io/onnx/reader.ts';
import { Graph } from './graph.ts';
import { encodeModel, writeOnnx } from './onnx.ts';
import { add, cast, fusedMatmul, gather, mul, reduceSum, relu, scalar } from './ops.ts';
import { feedsOf, openSession, tensor, tensorOf } from './session.ts';

const ramp = (shape: readonly number[]): Stored => {
  const count = shape.reduce((a, b) => a * b, 1);
  return stored(
    'float32',
    shape,
    Float32Array.from({ length: count }, (_, i) => (i % 17) - 8),
  );
};

const w = ramp([64, 32]);
const x = tensor('float32', [2, 3, 32], new Float32Array(192).fill(0.5));

function linear(weightsAs: 'initializers' | 'inputs'): Graph {
  const graph = new Graph(weightsAs);
  const product = fusedMatmul(graph.input('x', 'float32', ['batch', 'time', 32]), graph.weight('w', w), {
    transB: true,
  });
  graph.output('y', add(product, scalar(graph, 1)));
  return graph;
}

/** 1 + the sum of half of each row. */
const expected = Array.from({ length: 64 }, (_, row) => {
  const values = new Float32Array(w.bytes().buffer, 4 * 32 * row, 32);
  return 1 + values.reduce((a, b) => a + b, 0) / 2;
});

async function firstRow(source: Graph | string | Uint8Array, feeds = {}): Promise<number[]> {
  const session = await openSession(source, { threads: 1 });
  const { y } = await session.run({ x, ...feeds });
  await session.release();
  expect(y.dims).toEqual([2, 3, 64]);
  return Array.from(y.data as Float32Array).slice(0, 64);
}

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'lapidary-graph-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

describe('a graph runs alike', () => {
  it('with its weights inside', async () => expect(await firstRow(linear('initializers'))).toEqual(expected));

  it('with its weights fed', async () => {
    const graph = linear('inputs');
    expect(await firstRow(graph, feedsOf(graph.weights))).toEqual(expected);
  });

  it('from its bytes', async () =>
    expect(await firstRow(encodeModel(linear('initializers')))).toEqual(expected));

  it('from one file', async () => {
    const path = join(folder, 'whole', 'model.onnx');
    expect(writeOnnx(linear('initializers'), path)).toEqual([path]);
    expect(await firstRow(path)).toEqual(expected);
  });

  it('from a file with its weights beside it', async () => {
    const path = join(folder, 'apart', 'model_q4.onnx');
    expect(writeOnnx(linear('initializers'), path, { externalThreshold: 4096 })).toEqual([
      `${path}_data`,
      path,
    ]);
    expect(statSync(`${path}_data`).size).toBe(w.byteLength);
    expect(await firstRow(path)).toEqual(expected);
    expect(readdirSync(join(folder, 'apart')).sort()).toEqual(['model_q4.onnx', 'model_q4.onnx_data']);
  });

  it('with weights larger than a protobuf should hold', async () => {
    const rows = 2 ** 15;
    const graph = new Graph();
    const table = graph.weight('table', {
      ...ramp([1, 1]),
      shape: [rows, 600],
      byteLength: rows * 2400,
      bytes: () => new Uint8Array(new Float32Array(rows * 600).fill(2).buffer),
    });
    graph.output('y', reduceSum(gather(table, graph.input('ids', 'int64', ['n'])), [-1]));
    const session = await openSession(graph);
    const { y } = await session.run({ ids: tensor('int64', [2], BigInt64Array.of(0n, BigInt(rows - 1))) });
    expect([...(y.data as Float32Array)]).toEqual([1200, 1200]);
    await session.release();
  });
});

describe('a written file', () => {
  it('has large tensors at aligned offsets, small ones inside, and names of its own for outputs', () => {
    const graph = new Graph();
    const a = graph.weight('a', ramp([30, 30]));
    const b = graph.weight('b', ramp([30, 30]));
    graph.output(
      'y',
      mul(add(graph.input('x', 'float32', [30, 30]), a), add(b, graph.weight('c', ramp([30])))),
    );
    graph.output('same', a);
    const path = join(folder, 'aligned.onnx');
    writeOnnx(graph, path, { externalThreshold: 0 });
    const model = readOnnx(path);
    const places = model.initializers.map(({ name, data }) => [
      name,
      'location' in data ? data.offset : 'inside',
    ]);
    expect(Object.fromEntries(places)).toMatchObject({ a: 0, b: 4096, c: 'inside' });
    expect(model.outputs.map(({ name }) => name)).toEqual(['y', 'same']);
    expect(model).toMatchObject({
      producer: 'lapidary',
      irVersion: 10,
      opsets: [
        { domain: '', version: 21 },
        { domain: 'com.microsoft', version: 1 },
      ],
    });
  });

  it('has only nodes and tensors that an output needs', () => {
    const graph = linear('initializers');
    relu(add(graph.weights.get('w')!.value, graph.weight('unused', ramp([32]))));
    const path = join(folder, 'lean.onnx');
    writeOnnx(graph, path);
    const model = readOnnx(path);
    expect(model.nodes.map(({ type }) => type)).toEqual(['FusedMatMul', 'Add']);
    expect(model.initializers.map(({ name }) => name)).not.toContain('unused');
  });

  it('does not appear when a tensor cannot be read', () => {
    const graph = new Graph();
    const broken: Stored = {
      ...ramp([400]),
      bytes() {
        throw new Error('disk');
      },
    };
    graph.output('y', add(graph.input('x', 'float32', [400]), graph.weight('w', broken)));
    const path = join(folder, 'broken.onnx');
    expect(() => writeOnnx(graph, path)).toThrow('disk');
    expect(readdirSync(folder).filter((name) => name.includes('broken'))).toEqual([]);
  });
});

describe('a session', () => {
  it('describes its inputs and outputs', async () => {
    const session = await openSession(linear('inputs'));
    expect(session.inputs).toEqual([
      { name: 'x', dtype: 'float32', shape: ['batch', 'time', 32] },
      { name: 'w', dtype: 'float32', shape: [64, 32] },
    ]);
    expect(session.outputs).toEqual([{ name: 'y', dtype: 'float32', shape: ['batch', 'time', 64] }]);
    await session.release();
  });

  it('gives only the outputs that are asked for', async () => {
    const graph = linear('initializers');
    graph.output('sum', reduceSum(graph.outputs[0].value, [0, 1, 2]));
    const session = await openSession(graph);
    expect(Object.keys(await session.run({ x }))).toEqual(['y', 'sum']);
    expect(Object.keys(await session.run({ x }, ['sum']))).toEqual(['sum']);
    await session.release();
  });

  it('writes into the tensors that it is given, and leaves no copies of them behind', async () => {
    const graph = new Graph();
    const input = graph.input('x', 'float32', ['n']);
    graph.output('y', add(input, input));
    const session = await openSession(graph);
    const many = 2 ** 20;
    const [fed, y] = [1, 0].map((value) => tensor('float32', [many], new Float32Array(many).fill(value)));
    const before = process.memoryUsage().arrayBuffers;
    for (let run = 0; run < 20; run++) expect((await session.run({ x: fed }, { y })).y).toBe(y);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(8 * 4 * many);
    expect(y.data[many - 1]).toBe(2);
    await session.release();
  });

  it('writes float16 and bfloat16 weights, and takes float16 feeds', async () => {
    const graph = new Graph();
    const half = graph.weight('half', stored('float16', [2], Uint16Array.of(0x3c00, 0xc000)));
    const brain = graph.weight('brain', stored('bfloat16', [2], Uint16Array.of(0x3f80, 0xc000)));
    const fed = graph.input('fed', 'float16', [2]);
    graph.output('y', add(cast(add(half, fed), 'float32'), cast(brain, 'float32')));
    const session = await openSession(graph);
    const { y } = await session.run({ fed: tensor('float16', [2], Uint16Array.of(0x3c00, 0x3c00)) });
    expect([...(y.data as Float32Array)]).toEqual([3, -3]);
    await session.release();
  });

  it('holds float16 as bits on every Node: what is fed, what comes out, what is written in place, what is fed back', async () => {
    const graph = new Graph();
    const x = graph.input('x', 'float16', [2]);
    graph.output('y', add(x, x));
    const session = await openSession(graph);
    const fed = tensor('float16', [2], Uint16Array.of(0x3c00, 0xc000));
    const place = tensor('float16', [2], new Uint16Array(2));
    const fresh = (await session.run({ x: fed })).y;
    for (const { data } of [fed, place, fresh]) expect(data).toBeInstanceOf(Uint16Array);
    expect([...(fresh.data as Uint16Array)]).toEqual([0x4000, 0xc400]);
    expect((await session.run({ x: fresh }, { y: place })).y).toBe(place);
    expect([...(place.data as Uint16Array)]).toEqual([0x4400, 0xc800]);
    await session.release();
  });

  it('explains what the engine does not take', async () => {
    await expect(openSession(new Uint8Array([1, 2, 3]))).rejects.toThrow(LapidaryError);
    await expect(openSession(join(folder, 'nowhere.onnx'))).rejects.toThrow(
      /nowhere.onnx: the engine refused/,
    );
    const session = await openSession(linear('initializers'));
    await expect(session.run({})).rejects.toThrow(LapidaryError);
    await session.release();
  });
});

describe('a stored tensor as a feed', () => {
  it('shares its bytes, and copies only what is not aligned', () => {
    const values = new Float32Array([1, 2, 3]);
    const shared = tensorOf(stored('float32', [3], values));
    values[1] = 7;
    expect([...(shared.data as Float32Array)]).toEqual([1, 7, 3]);
    const bytes = new Uint8Array(13);
    bytes.set(new Uint8Array(values.buffer), 1);
    expect([...(tensorOf(stored('float32', [3], bytes.subarray(1))).data as Float32Array)]).toEqual([
      1, 7, 3,
    ]);
  });

  it('is refused where the engine takes the type only inside graphs', () => {
    expect(() => tensorOf(stored('bfloat16', [1], new Uint16Array(1)))).toThrow(
      /bfloat16 cannot be an input.*widen/s,
    );
  });
});
