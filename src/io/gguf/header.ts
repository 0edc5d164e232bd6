/**
 * The header of a GGUF file: keys with typed values, then names, shapes, types and places of the tensors. It has no
 * length of its own, so it is read in growing chunks; and since it comes from strangers, every count and length is held
 * against what is left of the file before anything is allocated.
 */

import { LapidaryError } from '../../base/errors.ts';
import type { GgmlType } from '../../base/ggml.ts';
import { ggmlTypes } from '../../base/ggml.ts';
import { readRange } from '../range.ts';
import type { GgufElement, GgufMetadata, GgufValue } from './types.ts';
import { aligned, arrayId, defaultAlignment, elementBytes, elementIds, maxNameBytes } from './types.ts';

export interface TensorEntry {
  readonly name: string;
  readonly type: GgmlType;
  /** Rows first: a matrix is [out, in]. */
  readonly shape: readonly number[];
  /** From the beginning of the data section. */
  readonly offset: number;
  readonly byteLength: number;
}

export interface GgufHeader {
  readonly version: number;
  readonly metadata: GgufMetadata;
  readonly tensors: readonly TensorEntry[];
  readonly alignment: number;
  /** Where the data section begins in the file. */
  readonly dataStart: number;
}

/** Caps far above any model's: the largest vocabularies have some 300,000 tokens and 500,000 merges. */
const maxElements = 2 ** 24;
const maxKeys = 2 ** 16;
const maxTensors = 2 ** 20;
const maxKeyBytes = 2 ** 16 - 1;
const maxStringBytes = 2 ** 26;

const elementOf = new Map(Object.entries(elementIds).map(([name, id]) => [id, name as GgufElement]));

/** @throws LapidaryError that names the first thing wrong */
export function readHeader(file: number, fileBytes: number, path: string): GgufHeader {
  const input = reader(file, fileBytes, path);
  const version = readVersion(input);
  const tensorCount = input.count(24, maxTensors, 'tensors');
  const keyCount = input.count(13, maxKeys, 'keys');
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < keyCount; i++) {
    const key = input.name(maxKeyBytes, 'key');
    if (metadata.has(key)) input.refuse(`the key "${key}" twice`, 'every key once', key);
    metadata.set(key, readValue(input, key));
  }
  const alignment = alignmentOf(metadata, input);
  const tensors: TensorEntry[] = [];
  for (let i = 0; i < tensorCount; i++) tensors.push(readTensorEntry(input));
  const dataStart = aligned(input.position(), alignment);
  checkLayout(tensors, alignment, fileBytes - dataStart, input);
  return { version, metadata, tensors, alignment, dataStart };
}

type Reader = ReturnType<typeof reader>;

/** A position in the file that only moves on, with the chunk around it in memory. */
function reader(file: number, fileBytes: number, path: string) {
  let chunk = new Uint8Array(0);
  let chunkStart = 0;
  let at = 0;
  let chunkBytes = 2 ** 16;
  const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  // Tokens of damaged vocabularies may be no UTF-8; llama.cpp takes them as they are.
  const lenient = new TextDecoder('utf-8', { ignoreBOM: true });

  function refuse(what: string, expected: string, found: string | number | bigint): never {
    const fix = 'the file is cut short, damaged, or not GGUF; fetch it again';
    throw new LapidaryError({ what, where: path, expected, found: `${found}`, fix });
  }

  /** The next `length` bytes, which the caller must not keep. */
  function take(length: number): Uint8Array {
    if (length > fileBytes - at)
      refuse('the file ends within its header', `${length} bytes at ${at}`, fileBytes - at);
    if (at + length > chunkStart + chunk.byteLength) {
      chunkBytes = Math.min(chunkBytes * 2, 2 ** 23);
      const size = Math.min(Math.max(length, chunkBytes), fileBytes - at);
      chunk = readRange(file, at, size, path);
      chunkStart = at;
    }
    const bytes = chunk.subarray(at - chunkStart, at - chunkStart + length);
    at += length;
    return bytes;
  }

  function view(length: number): DataView {
    const bytes = take(length);
    return new DataView(bytes.buffer, bytes.byteOffset, length);
  }

  const u32 = () => view(4).getUint32(0, true);
  const u64 = () => view(8).getBigUint64(0, true);

  /** A count of things that take at least `bytes` each. */
  function count(bytes: number, most: number, what: string): number {
    const value = u64();
    const left = Math.floor((fileBytes - at) / bytes);
    if (value > BigInt(Math.min(left, most)))
      refuse(`more ${what} than fit`, `at most ${Math.min(left, most)}`, value);
    return Number(value);
  }

  function name(most: number, what: string): string {
    const bytes = take(count(1, most, `bytes in a ${what}'s name`));
    let text: string;
    try {
      text = utf8.decode(bytes);
    } catch {
      return refuse(`a ${what}'s name is not UTF-8`, 'UTF-8', Buffer.from(bytes).toString('hex'));
    }
    if (text === '' || /[\p{Cc}\p{Cs}]/u.test(text))
      refuse(`a ${what} without a proper name`, 'text without control characters', JSON.stringify(text));
    return text;
  }

  return {
    refuse,
    take,
    view,
    u32,
    u64,
    count,
    name,
    text: () => lenient.decode(take(count(1, maxStringBytes, 'bytes in a string'))),
    position: () => at,
  };
}

function readVersion(input: Reader): number {
  const magic = Buffer.from(input.take(4)).toString('latin1');
  if (magic !== 'GGUF') input.refuse('not a GGUF file', '"GGUF" at its beginning', JSON.stringify(magic));
  const version = input.u32();
  if (version === 2 || version === 3) return version;
  if (version % 2 ** 16 === 0 && version !== 0)
    input.refuse('a big-endian GGUF', 'little-endian', 'big-endian');
  return input.refuse('a version of GGUF that is not read here', 'version 2 or 3', version);
}

function readValue(input: Reader, key: string): GgufValue {
  const id = input.u32();
  if (id !== arrayId) {
    const type = elementOf.get(id);
    if (type === undefined) return input.refuse(`"${key}" has an unknown type`, '0 to 12', id);
    return readScalar(input, type);
  }
  const elementId = input.u32();
  const of = elementOf.get(elementId);
  if (of === undefined)
    return input.refuse(`"${key}" is an array of an unknown type`, 'numbers, bools or strings', elementId);
  const length = input.count(elementBytes[of], maxElements, `elements in "${key}"`);
  return readArray(input, of, length);
}

function readScalar(input: Reader, type: GgufElement): GgufValue {
  if (type === 'string') return { type, value: input.text() };
  const view = input.view(elementBytes[type]);
  if (type === 'bool') return { type, value: view.getUint8(0) !== 0 };
  if (type === 'uint64') return { type, value: view.getBigUint64(0, true) };
  if (type === 'int64') return { type, value: view.getBigInt64(0, true) };
  return { type, value: numberReaders[type](view) };
}

const numberReaders = {
  uint8: (view: DataView) => view.getUint8(0),
  int8: (view: DataView) => view.getInt8(0),
  uint16: (view: DataView) => view.getUint16(0, true),
  int16: (view: DataView) => view.getInt16(0, true),
  uint32: (view: DataView) => view.getUint32(0, true),
  int32: (view: DataView) => view.getInt32(0, true),
  float32: (view: DataView) => view.getFloat32(0, true),
  float64: (view: DataView) => view.getFloat64(0, true),
};

const arrays = {
  uint8: Uint8Array,
  int8: Int8Array,
  uint16: Uint16Array,
  int16: Int16Array,
  uint32: Uint32Array,
  int32: Int32Array,
  float32: Float32Array,
  float64: Float64Array,
};

function readArray(input: Reader, of: GgufElement, length: number): GgufValue {
  if (of === 'string') return { type: 'array', of, values: Array.from({ length }, input.text) };
  // A copy, which is also aligned.
  const { buffer } = input.take(length * elementBytes[of]).slice();
  if (of === 'bool')
    return { type: 'array', of, values: Array.from(new Uint8Array(buffer), (byte) => byte !== 0) };
  if (of === 'uint64') return { type: 'array', of, values: new BigUint64Array(buffer) };
  if (of === 'int64') return { type: 'array', of, values: new BigInt64Array(buffer) };
  return { type: 'array', of, values: new arrays[of](buffer) };
}

function alignmentOf(metadata: GgufMetadata, input: Reader): number {
  const found = metadata.get('general.alignment');
  if (found === undefined) return defaultAlignment;
  const value = found.type === 'uint32' ? found.value : 0;
  if (value >= 1 && value <= 2 ** 20 && Number.isInteger(Math.log2(value))) return value;
  return input.refuse('an alignment that cannot be', 'a uint32 power of two', JSON.stringify(value));
}

function readTensorEntry(input: Reader): TensorEntry {
  const name = input.name(maxNameBytes, 'tensor');
  const rank = input.u32();
  if (rank < 1 || rank > 4) input.refuse(`tensor "${name}" has a wrong number of dimensions`, '1 to 4', rank);
  const inner = Array.from({ length: rank }, () => {
    const size = input.u64();
    if (size < 1n || size > 2n ** 48n)
      input.refuse(`tensor "${name}" has a dimension that cannot be`, 'from 1 on', size);
    return Number(size);
  });
  const elements = inner.reduce((product, size) => product * size, 1);
  if (elements > 2 ** 50) input.refuse(`tensor "${name}" is too large`, 'at most 2^50 weights', elements);
  const id = input.u32();
  const type = ggmlTypes.get(id);
  if (type === undefined) return input.refuse(`tensor "${name}" has an unknown type`, 'a type of ggml', id);
  if (inner[0] % type.weights !== 0) {
    input.refuse(
      `tensor "${name}": its rows are no whole number of ${type.name} blocks`,
      `a multiple of ${type.weights} columns`,
      inner[0],
    );
  }
  const offset = input.u64();
  if (offset > BigInt(Number.MAX_SAFE_INTEGER))
    input.refuse(`tensor "${name}" lies outside the file`, 'a place within', offset);
  return {
    name,
    type,
    shape: inner.reverse(),
    offset: Number(offset),
    byteLength: (elements / type.weights) * type.bytes,
  };
}

function checkLayout(
  tensors: readonly TensorEntry[],
  alignment: number,
  dataBytes: number,
  input: Reader,
): void {
  const names = new Set<string>();
  for (const { name, offset, byteLength } of tensors) {
    if (names.has(name)) input.refuse(`tensor "${name}" twice`, 'every tensor once', name);
    names.add(name);
    if (offset % alignment !== 0)
      input.refuse(`tensor "${name}" is not aligned`, `a multiple of ${alignment}`, offset);
    if (offset + byteLength > dataBytes) {
      input.refuse(
        `tensor "${name}" ends behind the file`,
        `at most ${Math.max(dataBytes, 0)} bytes of data`,
        offset + byteLength,
      );
    }
  }
  const placed = [...tensors].sort((a, b) => a.offset - b.offset);
  for (const [i, { name, offset }] of placed.entries()) {
    if (i === 0) continue;
    const before = placed[i - 1];
    if (offset < before.offset + before.byteLength) {
      input.refuse(
        `tensors "${before.name}" and "${name}" overlap`,
        `"${name}" from ${before.offset + before.byteLength} on`,
        offset,
      );
    }
  }
}
