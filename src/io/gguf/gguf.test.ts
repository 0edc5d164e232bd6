import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { LapidaryError } from '../../base/errors.ts';
import { ggmlType } from '../../base/ggml.ts';
import type { Random } from '../../base/random.ts';
import { random } from '../../base/random.ts';
import { countAt, flagAt, numberAt, numbersAt, textAt, textsAt } from './metadata.ts';
import { openGguf } from './read.ts';
import type { GgufMetadata, GgufValue } from './types.ts';
import { elementIds } from './types.ts';
import type { WritableTensor } from './write.ts';
import { writeGguf } from './write.ts';

const root = mkdtempSync(join(tmpdir(), 'lapidary-gguf-io-'));
afterAll(() => rmSync(root, { recursive: true }));

const everyType: readonly [string, GgufValue][] = [
  ['general.architecture', { type: 'string', value: 'llama' }],
  ['a.u8', { type: 'uint8', value: 255 }],
  ['a.i8', { type: 'int8', value: -128 }],
  ['a.u16', { type: 'uint16', value: 65535 }],
  ['a.i16', { type: 'int16', value: -2 }],
  ['a.u32', { type: 'uint32', value: 4294967295 }],
  ['a.i32', { type: 'int32', value: -3 }],
  ['a.f32', { type: 'float32', value: 0.5 }],
  ['a.bool', { type: 'bool', value: true }],
  ['a.u64', { type: 'uint64', value: 2n ** 64n - 1n }],
  ['a.i64', { type: 'int64', value: -4n }],
  ['a.f64', { type: 'float64', value: Math.PI }],
  ['a.texts', { type: 'array', of: 'string', values: ['', 'Ġa', '世界'] }],
  ['a.floats', { type: 'array', of: 'float32', values: Float32Array.of(1, -2) }],
  ['a.longs', { type: 'array', of: 'int64', values: BigInt64Array.of(1n, -2n) }],
  ['a.flags', { type: 'array', of: 'bool', values: [true, false] }],
  ['a.nothing', { type: 'array', of: 'int32', values: new Int32Array(0) }],
];

function tensor(type: string, shape: readonly number[], fill = 7): WritableTensor {
  const { weights, bytes } = ggmlType(type);
  const byteLength = (shape.reduce((a, b) => a * b) / weights) * bytes;
  return { type: ggmlType(type), shape, byteLength, bytes: () => new Uint8Array(byteLength).fill(fill) };
}

const tensors = new Map([
  ['token_embd.weight', tensor('Q4_0', [3, 64], 1)],
  ['blk.0.attn_norm.weight', tensor('F32', [5], 2)],
  ['blk.0.ffn_up.weight', tensor('Q6_K', [2, 256], 3)],
  ['rank4', tensor('F16', [2, 1, 3, 4], 4)],
]);

async function written(name: string, metadata: GgufMetadata = new Map(everyType)): Promise<string> {
  const path = join(root, name);
  await writeGguf(path, metadata, tensors);
  return path;
}

describe('GGUF', () => {
  it('reads back what was written, every type of value and tensor', async () => {
    const file = openGguf(await written('all.gguf'));
    expect(file.version).toBe(3);
    expect([...file.metadata]).toEqual(everyType);
    expect([...file.tensors.keys()]).toEqual([...tensors.keys()]);
    for (const [name, { type, shape, offset, byteLength, bytes }] of file.tensors) {
      const original = tensors.get(name)!;
      expect([type, shape, byteLength]).toEqual([original.type, original.shape, original.byteLength]);
      expect(offset % 32).toBe(0);
      expect(bytes()).toEqual(original.bytes());
    }
  });

  it('writes the layout of the specification, byte by byte', async () => {
    const path = join(root, 'small.gguf');
    await writeGguf(
      path,
      new Map([['k', { type: 'uint32', value: 5 }]]),
      new Map([['t', tensor('F32', [2, 3])]]),
    );
    const header = [
      [0x47, 0x47, 0x55, 0x46, 3, 0, 0, 0],
      [1, 0, 0, 0, 0, 0, 0, 0],
      [1, 0, 0, 0, 0, 0, 0, 0],
      [1, 0, 0, 0, 0, 0, 0, 0, 0x6b, 4, 0, 0, 0, 5, 0, 0, 0],
      [1, 0, 0, 0, 0, 0, 0, 0, 0x74, 2, 0, 0, 0],
      [3, 0, 0, 0, 0, 0, 0, 0],
      [2, 0, 0, 0, 0, 0, 0, 0],
      [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ].flat();
    const padding = new Array(96 - header.length).fill(0);
    // The data is padded too.
    const data = [...new Array(24).fill(7), ...new Array(8).fill(0)];
    expect([...readFileSync(path)]).toEqual([...header, ...padding, ...data]);
  });

  it('reads version 2, which differs in nothing but the number', async () => {
    const path = await written('two.gguf');
    const bytes = readFileSync(path);
    bytes.writeUInt32LE(2, 4);
    writeFileSync(path, bytes);
    expect([...openGguf(path).metadata]).toEqual(everyType);
  });

  it('takes another alignment from the file', () => {
    const path = join(root, 'aligned.gguf');
    writeFileSync(path, raw({ keys: [alignment(64)], data: 128 }));
    expect(openGguf(path).tensors.get('t')!.offset % 64).toBe(0);
  });

  it('has an identity that follows every byte', async () => {
    const path = await written('identity.gguf');
    const before = openGguf(path).identity();
    const bytes = readFileSync(path);
    bytes[bytes.length - 40] ^= 1;
    writeFileSync(path, bytes);
    expect(before).toMatch(/^[0-9a-f]{64}$/);
    expect(openGguf(path).identity()).not.toBe(before);
  });

  it('gives values to those who ask by kind, and says which key is of another', async () => {
    const { metadata } = openGguf(await written('values.gguf'));
    expect(numberAt(metadata, 'a.i64')).toBe(-4);
    expect(countAt(metadata, 'a.u8')).toBe(255);
    expect(textAt(metadata, 'general.architecture')).toBe('llama');
    expect(flagAt(metadata, 'a.bool')).toBe(true);
    expect(textsAt(metadata, 'a.texts')).toHaveLength(3);
    expect(Array.from(numbersAt(metadata, 'a.longs')!)).toEqual([1, -2]);
    expect(numberAt(metadata, 'none')).toBeUndefined();
    expect(() => countAt(metadata, 'none')).toThrow(/no key "none"/);
    expect(() => countAt(metadata, 'a.i8')).toThrow(/"a.i8" .*\n.*\n.*-128 \(int8\)/);
    expect(() => textAt(metadata, 'a.u32')).toThrow(/"a.u32"(.|\n)*a text/);
    expect(() => numbersAt(metadata, 'a.texts')).toThrow(/an array of 3 string/);
  });
});

const u32 = (value: number) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};
const u64 = (value: number | bigint) => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
};
const text = (value: string) => Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)]);
const alignment = (value: number) =>
  Buffer.concat([text('general.alignment'), u32(elementIds.uint32), u32(value)]);
const info = (name: string, sizes: (number | bigint)[], type: number, offset: number | bigint) =>
  Buffer.concat([text(name), u32(sizes.length), ...sizes.map(u64), u32(type), u64(offset)]);

/** A file by hand, whatever it claims. */
function raw({
  magic = 'GGUF',
  version = 3,
  counts = undefined as [number | bigint, number | bigint] | undefined,
  keys = [] as Buffer[],
  infos = [info('t', [8], 0, 0)],
  data = 64,
}): Buffer {
  const [tensorCount, keyCount] = counts ?? [infos.length, keys.length];
  const head = [Buffer.from(magic), u32(version), u64(tensorCount), u64(keyCount), ...keys, ...infos];
  return Buffer.concat([...head, Buffer.alloc(32 + data)]);
}

describe('GGUF files that are wrong', () => {
  const key = (name: string, type: number, ...value: Buffer[]) =>
    Buffer.concat([text(name), u32(type), ...value]);
  const cases: [string, Buffer, RegExp][] = [
    ['another format', raw({ magic: 'GGML' }), /not a GGUF file/],
    ['version 1', raw({ version: 1 }), /version of GGUF/],
    ['big-endian', raw({ version: 0x03000000 }), /big-endian/],
    ['too many tensors', raw({ counts: [2n ** 63n, 0] }), /more tensors than fit/],
    ['too many keys', raw({ counts: [1, 2n ** 40n] }), /more keys than fit/],
    ['a string beyond the file', raw({ keys: [key('k', 8, u64(2n ** 60n))] }), /more bytes in a string/],
    [
      'an array beyond the file',
      raw({ keys: [key('k', 9, u32(8), u64(2n ** 50n))] }),
      /more elements in "k"/,
    ],
    ['an array of arrays', raw({ keys: [key('k', 9, u32(9), u64(1))] }), /array of an unknown type/],
    ['an unknown type', raw({ keys: [key('k', 13)] }), /"k" has an unknown type/],
    [
      'a key twice',
      raw({ keys: [key('k', 7, Buffer.of(1)), key('k', 7, Buffer.of(1))] }),
      /the key "k" twice/,
    ],
    ['an empty key', raw({ keys: [key('', 7, Buffer.of(1))] }), /without a proper name/],
    ['an alignment of 0', raw({ keys: [alignment(0)] }), /alignment that cannot be/],
    ['an alignment of 3', raw({ keys: [alignment(3)] }), /alignment that cannot be/],
    ['no dimensions', raw({ infos: [info('t', [], 0, 0)] }), /wrong number of dimensions/],
    ['five dimensions', raw({ infos: [info('t', [1, 1, 1, 1, 1], 0, 0)] }), /wrong number of dimensions/],
    ['a dimension of 0', raw({ infos: [info('t', [0], 0, 0)] }), /dimension that cannot be/],
    ['a huge dimension', raw({ infos: [info('t', [2n ** 63n], 0, 0)] }), /dimension that cannot be/],
    ['a huge product', raw({ infos: [info('t', [2n ** 40n, 2n ** 40n], 0, 0)] }), /too large/],
    ['an unknown tensor type', raw({ infos: [info('t', [8], 99, 0)] }), /unknown type/],
    ['a removed tensor type', raw({ infos: [info('t', [32], 4, 0)] }), /unknown type/],
    ['half a block', raw({ infos: [info('t', [48], 2, 0)] }), /whole number of Q4_0 blocks/],
    ['a tensor behind the file', raw({ infos: [info('t', [64], 0, 0)] }), /ends behind the file/],
    ['an offset behind the file', raw({ infos: [info('t', [8], 0, 2n ** 62n)] }), /outside the file/],
    ['an offset between alignments', raw({ infos: [info('t', [8], 0, 4)] }), /not aligned/],
    ['a tensor twice', raw({ infos: [info('t', [8], 0, 0), info('t', [8], 0, 32)] }), /"t" twice/],
    [
      'overlapping tensors',
      raw({ infos: [info('a', [9], 0, 0), info('b', [1], 0, 32)] }),
      /"a" and "b" overlap/,
    ],
    ['a long name', raw({ infos: [info('n'.repeat(65), [8], 0, 0)] }), /more bytes in a tensor's name/],
  ];
  it.each(cases)('refuses %s', (_what, bytes, message) => {
    const path = join(root, 'wrong.gguf');
    writeFileSync(path, bytes);
    expect(() => openGguf(path)).toThrow(LapidaryError);
    expect(() => openGguf(path)).toThrow(message);
  });

  it('refuses every beginning of a file', async () => {
    const path = await written('cut.gguf');
    const { length } = readFileSync(path);
    for (let size = length - 64; size >= 0; size -= 7) {
      truncateSync(path, size);
      expect(() => openGguf(path), `${size} bytes`).toThrow(LapidaryError);
    }
  });

  it('refuses a missing file, a folder, and a file that changed', async () => {
    expect(() => openGguf(join(root, 'none.gguf'))).toThrow(/no such file/);
    expect(() => openGguf(root)).toThrow(/not a file/);
    const path = await written('changing.gguf');
    const { bytes } = openGguf(path).tensors.get('rank4')!;
    truncateSync(path, readFileSync(path).length - 1);
    expect(bytes).toThrow(/changed while it was in use/);
  });

  it('is not written where the format cannot say it', async () => {
    const path = join(root, 'never.gguf');
    const write = (name: string, value: WritableTensor) =>
      writeGguf(path, new Map(), new Map([[name, value]]));
    await expect(write('n'.repeat(64), tensor('F32', [1]))).rejects.toThrow(/cannot hold/);
    await expect(write('t', { ...tensor('Q4_0', [2, 32]), shape: [4, 16] })).rejects.toThrow(/Q4_0 blocks/);
    await expect(write('t', { ...tensor('F32', [2]), bytes: () => new Uint8Array(7) })).rejects.toThrow(
      /gave 7/,
    );
    expect(() => readFileSync(path)).toThrow();
  });
});

describe('GGUF changed at random', () => {
  /** A bit, a byte, a word of consequence, a run removed, doubled or moved, or the end cut off; one to three times. */
  function mutate(source: Buffer, numbers: Random): Buffer {
    let bytes: Buffer = Buffer.from(source);
    for (let left = 1 + numbers.integer(3); left > 0; left--) bytes = changed(bytes, numbers);
    return bytes;
  }

  const words = [
    0n,
    1n,
    9n,
    31n,
    32n,
    33n,
    2n ** 31n,
    2n ** 32n - 1n,
    2n ** 53n,
    2n ** 63n - 1n,
    2n ** 64n - 1n,
  ];

  function changed(bytes: Buffer, numbers: Random): Buffer {
    const at = numbers.integer(bytes.length);
    const end = Math.min(bytes.length, at + 1 + numbers.integer(24));
    switch (numbers.integer(6)) {
      case 0:
        bytes[at] ^= 1 << numbers.integer(8);
        return bytes;
      case 1:
        bytes[at] = numbers.integer(256);
        return bytes;
      case 2: {
        const word = u64(words[numbers.integer(words.length)]!);
        word.copy(bytes, at);
        return bytes;
      }
      case 3:
        return Buffer.concat([bytes.subarray(0, at), bytes.subarray(end)]);
      case 4:
        return Buffer.concat([bytes.subarray(0, end), bytes.subarray(at)]);
      default:
        return numbers.integer(4) === 0 ? bytes.subarray(0, at) : bytes;
    }
  }

  it('opens or is refused in each of 2,000 cases, memory bounded', async () => {
    const whole = readFileSync(await written('whole.gguf'));
    const headerEnd = openGguf(join(root, 'whole.gguf')).tensors.get('token_embd.weight')!.offset;
    const path = join(root, 'changed.gguf');
    const numbers = random(4);
    const before = process.memoryUsage().arrayBuffers;
    let opened = 0;
    let refused = 0;
    let most = before;
    for (let i = 0; i < 2000; i++) {
      writeFileSync(
        path,
        Buffer.concat([mutate(whole.subarray(0, headerEnd), numbers), whole.subarray(headerEnd)]),
      );
      try {
        const file = openGguf(path);
        for (const { bytes, byteLength } of file.tensors.values())
          expect(bytes().byteLength).toBe(byteLength);
        opened++;
      } catch (error) {
        if (!(error instanceof LapidaryError)) throw new Error(`case ${i}`, { cause: error });
        refused++;
      }
      most = Math.max(most, process.memoryUsage().arrayBuffers);
    }
    expect(opened + refused).toBe(2000);
    // Neither side may be empty: the changes reach the rules, and harmless ones pass.
    expect(refused).toBeGreaterThan(600);
    expect(opened).toBeGreaterThan(100);
    // The file has 2 kB; what is read is read in chunks and freed at leisure.
    expect(most - before).toBeLessThan(64 * 2 ** 20);
  });
});
