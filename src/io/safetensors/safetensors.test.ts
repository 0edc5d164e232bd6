import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { LapidaryError } from '../../base/errors.ts';
import { floatToBfloat, floatToHalf, toFloat32 } from '../../base/half.ts';
import type { Stored } from '../../base/tensor.ts';
import { stored } from '../../base/tensor.ts';
import { duplicateKey } from './header.ts';
import { openSafetensors } from './read.ts';
import { writeSafetensors, writeSharded } from './write.ts';

const folder = mkdtempSync(join(tmpdir(), 'lapidary-safetensors-'));
afterAll(() => rmSync(folder, { recursive: true }));
let count = 0;
const fresh = () => join(folder, `${count++}.safetensors`);

/** A file of this header, as text or as a value, and this many bytes of data. */
function file(header: unknown, dataBytes = 0): string {
  const path = fresh();
  const json = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  writeFileSync(path, Buffer.concat([length, json, Buffer.alloc(dataBytes)]));
  return path;
}

const entry = (shape: unknown, begin: unknown, end: unknown, dtype: unknown = 'F32') => ({
  dtype,
  shape,
  data_offsets: [begin, end],
});

const values = Float32Array.of(1, -2, 0.5, 3, 0, 1e-3);
const everyType = new Map<string, Stored>([
  ['b.half', stored('float16', [2, 3], floatToHalf(values))],
  ['a.brain', stored('bfloat16', [6], floatToBfloat(values))],
  ['z.float', stored('float32', [3, 2], values)],
  ['scalar', stored('float64', [], Float64Array.of(7))],
  ['empty', stored('float32', [0, 4], new Float32Array(0))],
  ['long', stored('int64', [1], BigInt64Array.of(-5n))],
  ['word', stored('int32', [1], Int32Array.of(-5))],
  ['short', stored('int16', [1], Int16Array.of(-5))],
  ['byte', stored('int8', [3], Int8Array.of(-5, 1, 2))],
  ['octet', stored('uint8', [1], Uint8Array.of(250))],
  ['flag', stored('bool', [1], Uint8Array.of(1))],
  ['名前', stored('float32', [1], Float32Array.of(4))],
]);

describe('safetensors', () => {
  it('reads back what it wrote: every type, name, shape and byte', async () => {
    const path = fresh();
    await writeSafetensors(path, everyType, { note: 'one', format: 'pt' });
    const opened = openSafetensors(path);
    expect(Object.fromEntries(opened.metadata)).toEqual({ note: 'one', format: 'pt' });
    expect([...opened.tensors.keys()].sort()).toEqual([...everyType.keys()].sort());
    for (const [name, tensor] of everyType) {
      const back = opened.tensors.get(name)!;
      expect([back.dtype, back.shape, back.byteLength]).toEqual([
        tensor.dtype,
        tensor.shape,
        tensor.byteLength,
      ]);
      expect(Buffer.from(back.bytes())).toEqual(Buffer.from(tensor.bytes()));
    }
    expect([...toFloat32(opened.tensors.get('z.float')!)]).toEqual([...values]);
  });

  it('writes the bytes that the format library writes: widest type first, then by name, data at a multiple of 8', async () => {
    const path = fresh();
    const tensors = ['b.half', 'z.float', 'octet', '名前'].map(
      (name) => [name, everyType.get(name)!] as const,
    );
    await writeSafetensors(path, new Map(tensors));
    const bytes = readFileSync(path);
    const length = Number(bytes.readBigUInt64LE());
    expect(length % 8).toBe(0);
    expect(
      bytes
        .subarray(8, 8 + length)
        .toString()
        .trimEnd(),
    ).toBe(
      '{"__metadata__":{"format":"pt"},"z.float":{"dtype":"F32","shape":[3,2],"data_offsets":[0,24]},' +
        '"名前":{"dtype":"F32","shape":[1],"data_offsets":[24,28]},' +
        '"b.half":{"dtype":"F16","shape":[2,3],"data_offsets":[28,40]},"octet":{"dtype":"U8","shape":[1],"data_offsets":[40,41]}}',
    );
    const again = fresh();
    await writeSafetensors(again, new Map(tensors.reverse()));
    expect(readFileSync(again)).toEqual(bytes);
  });

  it('reads one tensor of a file without the others', async () => {
    const path = fresh();
    await writeSafetensors(path, everyType);
    const opened = openSafetensors(path);
    const { buffer } = opened.tensors.get('byte')!.bytes();
    expect(buffer.byteLength).toBe(3);
  });

  it('reads a file whose metadata is null, as MLX writes it', () => {
    const { tensors } = openSafetensors(file({ __metadata__: null, weight: entry([2], 0, 8) }, 8));
    expect([...tensors.keys()]).toEqual(['weight']);
  });

  it('writes shards that hold every tensor once, in order, none over the limit unless alone', async () => {
    const place = join(folder, 'shards');
    mkdirSync(place);
    const tensors = new Map(
      [9, 3, 4, 20, 1, 1].map((size, i) => [`t${i}`, stored('uint8', [size], new Uint8Array(size).fill(i))]),
    );
    const names = await writeSharded(place, tensors, 10);
    const shards = names.slice(0, -1).map((name) => [...openSafetensors(join(place, name)).tensors.keys()]);
    expect(shards).toEqual([['t0'], ['t1', 't2'], ['t3'], ['t4', 't5']]);
    expect(names[0]).toBe('model-00001-of-00004.safetensors');
    const index = JSON.parse(readFileSync(join(place, 'model.safetensors.index.json'), 'utf8'));
    expect(index.metadata.total_size).toBe(38);
    expect(index.weight_map.t3).toBe('model-00003-of-00004.safetensors');
    expect(await writeSharded(place, tensors, 1000)).toEqual(['model.safetensors']);
  });

  it('lists types that nothing here computes with instead of reading them as something else', () => {
    const opened = openSafetensors(
      file({ a: entry([2, 2], 0, 4, 'F8_E8M0'), b: entry([2], 4, 8, 'U16') }, 8),
    );
    expect(opened.tensors.size).toBe(0);
    expect(opened.unsupported.get('a')).toEqual({ dtype: 'F8_E8M0', shape: [2, 2], byteLength: 4 });
  });

  it('leaves nothing behind when a tensor fails while it is written', async () => {
    const place = join(folder, 'failing');
    mkdirSync(place);
    const failing: Stored = {
      ...stored('uint8', [1], Uint8Array.of(1)),
      bytes: () => {
        throw new LapidaryError({ what: 'gone' });
      },
    };
    const tensors = new Map([...everyType, ['zz', failing] as const]);
    await expect(writeSafetensors(join(place, 'x.safetensors'), tensors)).rejects.toThrow('gone');
    expect(readdirSync(place)).toEqual([]);
  });

  it('does not write what could not be read: packed types, unusable names, wrong sizes', async () => {
    const bad: [string, Stored][] = [
      ['packed', stored('uint4', [2], new Uint8Array(1))],
      ['__metadata__', stored('uint8', [1], new Uint8Array(1))],
      ['new\nline', stored('uint8', [1], new Uint8Array(1))],
      ['liar', { dtype: 'uint8', shape: [2], byteLength: 2, bytes: () => new Uint8Array(1) }],
      ['shape', { dtype: 'uint8', shape: [3], byteLength: 2, bytes: () => new Uint8Array(2) }],
    ];
    for (const pair of bad)
      await expect(writeSafetensors(fresh(), new Map([pair])), pair[0]).rejects.toThrow();
  });
});

describe('a damaged safetensors file', () => {
  const f32 = (shape: unknown, begin: unknown, end: unknown) => ({ a: entry(shape, begin, end) });
  const cases: [why: string, path: () => string, says: RegExp][] = [
    ['is missing', () => join(folder, 'none'), /no such file/],
    ['is a folder', () => folder, /not a file/],
    ['is empty', () => raw(Buffer.alloc(0)), /too short/],
    ['ends inside its length', () => raw(Buffer.alloc(7)), /too short/],
    [
      'claims a header longer than the file',
      () => raw(Buffer.from([255, 255, 255, 255, 255, 255, 255, 255, 123])),
      /longer than the file/,
    ],
    ['has an empty header', () => raw(Buffer.alloc(8)), /does not start with "{"/],
    ['starts its header with a space', () => file(' {}'), /does not start/],
    [
      'has a header that is not UTF-8',
      () => raw(Buffer.from([3, 0, 0, 0, 0, 0, 0, 0, 123, 255, 125])),
      /UTF-8/,
    ],
    ['has a header that is not JSON', () => file('{"a":'), /not JSON/],
    [
      'names a tensor twice',
      () =>
        file(`{"a":${JSON.stringify(entry([1], 0, 4))},"\\u0061":${JSON.stringify(entry([1], 4, 8))}}`, 8),
      /name "a" twice/,
    ],
    [
      'gives a key twice',
      () => file('{"a":{"dtype":"F32","shape":[1],"shape":[2],"data_offsets":[0,4]}}', 4),
      /"shape" twice/,
    ],
    ['describes a tensor by a list', () => file({ a: [] }), /"a": not described/],
    ['has metadata that is not text', () => file({ __metadata__: { a: 1 } }), /__metadata__ "a"/],
    ['has metadata that is a list', () => file({ __metadata__: [] }), /__metadata__ is not/],
    ['has an unknown dtype', () => file({ a: entry([1], 0, 4, 'F31') }, 4), /unknown dtype(.|\n)*F31/],
    [
      'has a dtype from the prototype',
      () => file({ a: entry([1], 0, 4, 'constructor') }, 4),
      /unknown dtype/,
    ],
    ['has a tensor without a name', () => file({ '': entry([1], 0, 4) }, 4), /usable name/],
    ['has a name with a line break', () => file({ 'a\nb': entry([1], 0, 4) }, 4), /usable name/],
    ['has a name cut inside a character', () => file({ 'a\ud800': entry([1], 0, 4) }, 4), /usable name/],
    ['has a negative size', () => file(f32([-1], 0, 4), 4), /"a": not a shape/],
    [
      'has a size of minus zero',
      () => file('{"a":{"dtype":"F32","shape":[-0],"data_offsets":[0,0]}}'),
      /not a shape/,
    ],
    ['has a broken size', () => file(f32([1.5], 0, 6), 6), /not a shape/],
    [
      'has a size beyond exact numbers',
      () => file('{"a":{"dtype":"F32","shape":[9007199254740993],"data_offsets":[0,4]}}', 4),
      /not a shape/,
    ],
    ['has a shape that is text', () => file(f32('1', 0, 4), 4), /not a shape/],
    ['has a hundred dimensions', () => file(f32(new Array(100).fill(1), 0, 4), 4), /not a shape/],
    [
      'has sizes whose product overflows',
      () => file(f32([2 ** 31, 2 ** 31, 2 ** 31], 0, 4), 4),
      /shape and size/,
    ],
    [
      'has three offsets',
      () => file({ a: { dtype: 'F32', shape: [1], data_offsets: [0, 4, 4] } }, 4),
      /offsets/,
    ],
    ['has no offsets', () => file({ a: { dtype: 'F32', shape: [1] } }, 4), /offsets/],
    ['has a tensor that ends before it begins', () => file(f32([1], 4, 0), 4), /ends before/],
    ['has a tensor beyond its end', () => file(f32([2], 0, 8), 4), /beyond the end(.|\n)*at most 4/],
    [
      'has a shape that is not its span',
      () => file(f32([3], 0, 8), 8),
      /expected: 12 bytes(.|\n)*found: 8 bytes/,
    ],
    [
      'has overlapping tensors',
      () => file({ a: entry([2], 0, 8), b: entry([2], 4, 12) }, 12),
      /"b" overlaps tensor "a"/,
    ],
    ['has a hole', () => file({ a: entry([1], 0, 4), b: entry([1], 8, 12) }, 12), /"b" leaves a hole/],
    [
      'has data before its first tensor',
      () => file({ a: entry([1], 4, 8) }, 8),
      /leaves a hole after the header/,
    ],
    ['has bytes left over', () => file(f32([1], 0, 4), 5), /longer than its tensors/],
    ['has no tensor and bytes all the same', () => file({}, 1), /longer than its tensors/],
  ];

  function raw(bytes: Buffer): string {
    const path = fresh();
    writeFileSync(path, bytes);
    return path;
  }

  it.each(cases)('that %s is refused and says so', (_why, path, says) => {
    let found: unknown;
    try {
      openSafetensors(path());
    } catch (error) {
      found = error;
    }
    expect(found).toBeInstanceOf(LapidaryError);
    expect((found as Error).message).toMatch(says);
    expect((found as LapidaryError).problem.where).toContain(folder);
  });

  it('that is cut anywhere is refused', async () => {
    const whole = fresh();
    await writeSafetensors(whole, everyType);
    const bytes = readFileSync(whole);
    for (let length = 0; length < bytes.length; length += 3) {
      expect(() => openSafetensors(raw(bytes.subarray(0, length))), `${length} bytes`).toThrow(LapidaryError);
    }
  });

  it('that changes while it is in use is refused when a tensor is read', async () => {
    const path = fresh();
    await writeSafetensors(path, everyType);
    const opened = openSafetensors(path);
    truncateSync(path, readFileSync(path).length - 1);
    expect(() => opened.tensors.get('byte')!.bytes()).toThrow(/changed while/);
    rmSync(path);
    expect(() => opened.tensors.get('byte')!.bytes()).toThrow(/found: no file/);
  });
});

describe('duplicateKey', () => {
  it('finds a key that stands twice in one object, however it is spelled, and only that', () => {
    expect(duplicateKey('{"a":{"b":1},"c":[{"b":1},{"b":"a"}],"b":"b:","d":"\\"a\\":"}')).toBeUndefined();
    expect(duplicateKey('{"a":1 , "x" : [ {"k":1,"\\u006b"\n:2} ] }')).toBe('k');
    expect(duplicateKey('["a","a"]')).toBeUndefined();
    expect(duplicateKey('{"__proto__":1,"__proto__":2}')).toBe('__proto__');
  });
});
