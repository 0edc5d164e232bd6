/**
 * The header of a safetensors file: 8 bytes of length, then JSON that says where every tensor lies in the rest. It
 * comes from strangers, so nothing in it is believed: every rule of the format
 * (https://github.com/huggingface/safetensors) is checked before a tensor is handed out, and so are duplicate names,
 * which JSON parsers let pass.
 */

import { LapidaryError } from '../../base/errors.ts';
import { isObject, parseJson, shortened } from '../../base/json.ts';
import type { DType } from '../../base/tensor.ts';

/** Longest header that the format's own library reads, in bytes. */
export const maxHeaderBytes = 100_000_000;

/** More dimensions than any tensor library holds. */
const maxRank = 64;

/** What the format calls our types, in the order in which its library sorts them, widest first. */
export const dtypeNames: Readonly<Record<string, DType>> = {
  I64: 'int64',
  F64: 'float64',
  F32: 'float32',
  U32: 'uint32',
  I32: 'int32',
  BF16: 'bfloat16',
  F16: 'float16',
  I16: 'int16',
  F8_E4M3: 'float8e4m3',
  F8_E5M2: 'float8e5m2',
  I8: 'int8',
  U8: 'uint8',
  BOOL: 'bool',
};

/** Bits an element of every type the format defines takes, those that nothing here reads yet included. */
const bitsOf: Readonly<Record<string, number>> = {
  U64: 64,
  I64: 64,
  F64: 64,
  C64: 64,
  F32: 32,
  U32: 32,
  I32: 32,
  BF16: 16,
  F16: 16,
  U16: 16,
  I16: 16,
  F8_E8M0: 8,
  F8_E4M3: 8,
  F8_E5M2: 8,
  I8: 8,
  U8: 8,
  BOOL: 8,
  F6_E3M2: 6,
  F6_E2M3: 6,
  F4: 4,
};

export interface HeaderEntry {
  readonly name: string;
  /** As the file says it: "F32". */
  readonly dtype: string;
  readonly shape: readonly number[];
  /** Bytes of the data section, from `begin` up to `end`. */
  readonly begin: number;
  readonly end: number;
}

export interface Header {
  readonly entries: readonly HeaderEntry[];
  readonly metadata: ReadonlyMap<string, string>;
}

/**
 * @param bytes the JSON, without its length
 * @param dataBytes size of what follows it in the file
 * @param where the file, for errors
 * @throws LapidaryError that names the first thing wrong.
 */
export function parseHeader(bytes: Uint8Array, dataBytes: number, where: string): Header {
  const json = parseObject(bytes, where);
  const metadata = parseMetadata(json.__metadata__, where);
  const entries: HeaderEntry[] = [];
  for (const [name, value] of Object.entries(json)) {
    if (name !== '__metadata__') entries.push(parseEntry(name, value, dataBytes, where));
  }
  checkLayout(entries, dataBytes, where);
  return { entries, metadata };
}

function parseObject(bytes: Uint8Array, where: string): Record<string, unknown> {
  const damaged = 'the file is damaged or is not safetensors; fetch it again';
  if (bytes[0] !== 0x7b) {
    const found = bytes.length === 0 ? 'an empty header' : `byte 0x${bytes[0].toString(16)}`;
    throw new LapidaryError({
      what: 'the header does not start with "{"',
      where,
      expected: 'a JSON object',
      found,
      fix: damaged,
    });
  }
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new LapidaryError({ what: 'the header is not UTF-8', where, fix: damaged, cause });
  }
  const json = parseJson(text, { what: 'the header is not JSON', where, fix: damaged });
  const twice = duplicateKey(text);
  if (twice !== undefined) {
    throw new LapidaryError({
      what: `the header holds the name ${quote(twice)} twice`,
      where,
      expected: 'every name once',
      fix: 'write the file again with a safetensors library',
    });
  }
  return json as Record<string, unknown>;
}

function parseMetadata(value: unknown, where: string): ReadonlyMap<string, string> {
  // MLX writes null where there is none.
  if (value === undefined || value === null) return new Map();
  const entries = isObject(value) ? Object.entries(value) : undefined;
  const wrong = entries?.find(([, text]) => typeof text !== 'string');
  if (!entries || wrong) {
    throw new LapidaryError({
      what: wrong ? `__metadata__ ${quote(wrong[0])} is not a string` : '__metadata__ is not an object',
      where,
      expected: 'an object of strings',
      found: shortened(wrong ? wrong[1] : value),
      fix: 'write the file again with a safetensors library',
    });
  }
  return new Map(entries as [string, string][]);
}

function parseEntry(name: string, value: unknown, dataBytes: number, where: string): HeaderEntry {
  const refuse = (what: string, expected: string, found: unknown): never => {
    throw new LapidaryError({
      what: `tensor ${quote(name)}: ${what}`,
      where,
      expected,
      found: shortened(found),
      fix: 'the file is damaged, or whatever wrote it is at fault; fetch or write it again',
    });
  };
  if (name === '' || /[\p{Cc}\p{Cs}]/u.test(name)) {
    refuse('not a usable name', 'text without control characters', quote(name));
  }
  if (!isObject(value))
    return refuse('not described by an object', '{"dtype", "shape", "data_offsets"}', value);
  const { dtype, shape, data_offsets: offsets } = value;
  if (typeof dtype !== 'string' || !Object.hasOwn(bitsOf, dtype)) {
    return refuse('unknown dtype', `one of ${Object.keys(bitsOf).join(', ')}`, dtype);
  }
  if (!Array.isArray(shape) || shape.length > maxRank || !shape.every(isSize)) {
    return refuse('not a shape', `at most ${maxRank} whole numbers, none negative`, shape);
  }
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize)) {
    return refuse('not a pair of offsets', 'data_offsets [begin, end], whole numbers', offsets);
  }
  const [begin, end] = offsets as [number, number];
  if (begin > end) refuse('ends before it begins', 'begin <= end', offsets);
  if (end > dataBytes) {
    refuse(
      'lies beyond the end of the file',
      `an end of at most ${dataBytes}, the bytes of data there are`,
      offsets,
    );
  }
  const bits = shape.reduce((product, size) => product * size, bitsOf[dtype]);
  // A product that is not safe has rounded; its span could not be in the file anyway.
  if (!Number.isSafeInteger(bits) || bits !== (end - begin) * 8) {
    const expected = Number.isSafeInteger(bits) ? `${bits / 8} bytes` : 'fewer bytes than the file has';
    refuse(
      'shape and size disagree',
      `${expected} for ${dtype} [${shortened(shape.join(', '))}]`,
      `${end - begin} bytes`,
    );
  }
  return { name, dtype, shape: shape as number[], begin, end };
}

/** Tensors must fill the data exactly: no overlap, no hole, nothing left over (as the format's library demands). */
function checkLayout(entries: readonly HeaderEntry[], dataBytes: number, where: string): void {
  const byPlace = [...entries].sort((a, b) => a.begin - b.begin || a.end - b.end);
  let filled = 0;
  let last = 'the header';
  for (const { name, begin, end } of byPlace) {
    if (begin !== filled) {
      throw new LapidaryError({
        what: `tensor ${quote(name)} ${begin < filled ? 'overlaps' : 'leaves a hole after'} ${last}`,
        where,
        expected: `data that begins at ${filled}`,
        found: `${begin}`,
        fix: 'write the file again with a safetensors library',
      });
    }
    filled = end;
    last = `tensor ${quote(name)}`;
  }
  if (filled !== dataBytes) {
    throw new LapidaryError({
      what: 'the file is longer than its tensors',
      where,
      expected: `${filled} bytes of data`,
      found: `${dataBytes}`,
      fix: 'the file is damaged; fetch it again',
    });
  }
}

/** The first key that stands twice in one object of a text that is known to be JSON. */
export function duplicateKey(text: string): string | undefined {
  const open: (Set<string> | undefined)[] = [];
  for (let i = 0; i < text.length; i++) {
    const character = text[i];
    if (character === '{') open.push(new Set());
    else if (character === '[') open.push(undefined);
    else if (character === '}' || character === ']') open.pop();
    else if (character === '"') {
      const start = i++;
      while (text[i] !== '"') i += text[i] === '\\' ? 2 : 1;
      const keys = open.at(-1);
      if (!keys || !isFollowedByColon(text, i + 1)) continue;
      const key = JSON.parse(text.slice(start, i + 1)) as string;
      if (keys.has(key)) return key;
      keys.add(key);
    }
  }
  return undefined;
}

function isFollowedByColon(text: string, from: number): boolean {
  let i = from;
  while (text[i] === ' ' || text[i] === '\n' || text[i] === '\r' || text[i] === '\t') i++;
  return text[i] === ':';
}

function isSize(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0 && !Object.is(value, -0);
}

function quote(name: string): string {
  return JSON.stringify(shortened(name));
}
