import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ExitCode, LapidaryError } from '../../base/errors.ts';
import type { DType, Stored } from '../../base/tensor.ts';
import { byteLength, stored } from '../../base/tensor.ts';
import type { OnnxModel, OnnxTensor } from './model.ts';
import { typeCode } from './model.ts';
import { parseOnnx, readOnnx } from './reader.ts';
import { encodeParts, joinParts, writeParts } from './writer.ts';

function filled(dtype: DType, shape: readonly number[]): Stored {
  return stored(
    dtype,
    shape,
    Uint8Array.from({ length: byteLength(dtype, shape) }, (_, i) => (i * 37) & 255),
  );
}

const shape = [3, 5];
const sample: OnnxModel = {
  producer: 'lapidary',
  irVersion: 10,
  opsets: [
    { domain: '', version: 21 },
    { domain: 'com.microsoft', version: 1 },
  ],
  graphName: 'graph',
  nodes: [
    {
      name: 'first',
      domain: 'com.microsoft',
      type: 'FusedMatMul',
      inputs: ['x', '', 'w'],
      outputs: ['y'],
      attributes: { alpha: { float: 0.5 }, transA: -1, perm: [2, 0, -1], none: [], mode: 'linear' },
    },
  ],
  initializers: [
    ...(Object.keys(typeCode) as DType[]).map((dtype) => ({
      name: dtype,
      dtype,
      shape,
      data: filled(dtype, shape),
    })),
    { name: 'empty', dtype: 'float32', shape: [0, 4], data: filled('float32', [0, 4]) },
    { name: 'scalar', dtype: 'float32', shape: [], data: filled('float32', []) },
    { name: 'large', dtype: 'float32', shape: [600, 500], data: filled('float32', [600, 500]) },
    {
      name: 'far',
      dtype: 'int8',
      shape: [7],
      data: { location: 'model.onnx_data', offset: 2 ** 40, length: 7 },
    },
  ],
  inputs: [{ name: 'x', dtype: 'float32', shape: ['batch', 4] }],
  outputs: [{ name: 'y', dtype: 'float16', shape: [] }],
};

function encoded(model: OnnxModel): Uint8Array {
  const { parts, byteLength: length } = encodeParts(model);
  return joinParts(parts, length);
}

/** Tensors as text, so that models compare by value. */
function plain(model: OnnxModel) {
  const content = ({ data, ...rest }: OnnxTensor) => ({
    ...rest,
    data: 'location' in data ? data : Buffer.from(data.bytes()).toString('base64'),
  });
  return { ...model, initializers: model.initializers.map(content) };
}

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'lapidary-onnx-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

describe('an ONNX model', () => {
  it('is read as it was written, from memory', () => {
    expect(plain(parseOnnx(encoded(sample)))).toEqual(plain(sample));
  });

  it('is read as it was written, from a file whose tensors are read when asked for', () => {
    const path = join(folder, 'sample.onnx');
    writeFileSync(path, encoded(sample));
    expect(plain(readOnnx(path))).toEqual(plain(sample));
  });

  it('may hold typed fields instead of raw bytes, as other exporters write small constants', () => {
    // TensorProto { dims: 3, data_type: INT64, int64_data: [1, 300, -2] (packed), name: "i" }
    const minusTwo = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    const body = [0x08, 3, 0x10, 7, 0x3a, 13, 1, 0xac, 0x02, ...minusTwo, 0x42, 1, 0x69];
    const graph = [0x2a, body.length, ...body];
    const model = parseOnnx(Uint8Array.from([0x08, 10, 0x3a, graph.length, ...graph]));
    const { data } = model.initializers[0];
    const bytes = (data as Stored).bytes();
    expect([...new BigInt64Array(bytes.buffer, bytes.byteOffset, 3)]).toEqual([1n, 300n, -2n]);
  });
});

function withTensor(tensor: Partial<OnnxTensor>): Uint8Array {
  const base: OnnxTensor = { name: 'w', dtype: 'float32', shape: [2], data: filled('float32', [2]) };
  return encoded({ ...sample, initializers: [{ ...base, ...tensor }] });
}

describe('a damaged ONNX file', () => {
  const far = (location: string) => ({ data: { location, offset: 0, length: 8 } });
  const refused: readonly (readonly [string, Uint8Array, RegExp])[] = [
    ['nothing', new Uint8Array(0), /no graph/],
    ['text', new TextEncoder().encode('not an ONNX file at all'), /not a readable ONNX file|not supported/],
    ['a half', encoded(sample).subarray(0, 200), /are left/],
    ['too few bytes for a shape', withTensor({ shape: [3] }), /has 8 bytes for 12/],
    ['a negative size', withTensor({ shape: [-2, -1] }), /shape \[-2, -1\]/],
    ['a size beyond all memory', withTensor({ shape: [2 ** 40, 2 ** 40] }), /shape/],
    ['a path out of the folder', withTensor(far('../weights')), /outside/],
    ['an absolute path', withTensor(far('/etc/passwd')), /outside/],
    ['a path with a drive', withTensor(far('C:\\weights')), /outside/],
    ['a negative offset', withTensor({ data: { location: 'w', offset: -1, length: 8 } }), /lies at -1/],
    ['a wrong length', withTensor({ data: { location: 'w', offset: 0, length: 9 } }), /9 bytes for 8/],
  ];
  for (const [what, bytes, message] of refused) {
    it(`is refused: ${what}`, () => {
      expect(() => parseOnnx(bytes)).toThrow(LapidaryError);
      expect(() => parseOnnx(bytes)).toThrow(message);
    });
  }

  it('is refused: two tensors of one name', () => {
    const twice = { ...sample, initializers: [sample.initializers[0], sample.initializers[0]] };
    expect(() => parseOnnx(encoded(twice))).toThrow(/two tensors named "float32"/);
  });

  it('neither crashes nor hangs the reader: 2,000 random mutations', () => {
    const small = { ...sample, initializers: sample.initializers.filter(({ name }) => name !== 'large') };
    const original = encoded(small);
    let state = 12345;
    const random = (below: number) => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return Math.floor((state / 2 ** 32) * below);
    };
    const counts = { read: 0, refused: 0 };
    for (let round = 0; round < 2000; round++) {
      let bytes = original.slice();
      for (let i = random(8); i >= 0; i--) bytes[random(bytes.length)] = random(256);
      if (round % 4 === 1) bytes = bytes.subarray(0, random(bytes.length));
      if (round % 4 === 2) bytes.copyWithin(random(bytes.length), random(bytes.length), random(bytes.length));
      try {
        for (const { data } of parseOnnx(bytes).initializers) if (!('location' in data)) data.bytes();
        counts.read++;
      } catch (error) {
        if (!(error instanceof LapidaryError)) throw error;
        counts.refused++;
      }
    }
    expect(counts.read + counts.refused).toBe(2000);
    expect(Math.min(counts.read, counts.refused)).toBeGreaterThan(100);
  });
});

describe('a file that cannot be written', () => {
  it('is a matter of the system, and says where', () => {
    const path = join(tmpdir(), 'no-such-folder', 'model.onnx');
    expect(() => writeParts(path, [new Uint8Array(1)])).toThrow(
      expect.objectContaining({ name: 'LapidaryError', exitCode: ExitCode.system }),
    );
    expect(() => writeParts(path, [new Uint8Array(1)])).toThrow(/model.onnx: no such file or folder/);
  });
});
