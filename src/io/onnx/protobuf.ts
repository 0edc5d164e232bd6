/**
 * Protobuf as it is read: fields of a message one after the other, from bytes or from a file by offset. Every length
 * is checked against what is there before it is believed.
 */

import { LapidaryError } from '../../base/errors.ts';

/** Something with bytes at offsets: a file or an array. */
export interface Source {
  /** What to call it in errors. */
  readonly name: string;
  readonly size: number;
  /** Exactly `length` bytes; callers stay inside `size`. */
  read(offset: number, length: number): Uint8Array;
}

/** Bytes in memory as a source. */
export function sourceOf(bytes: Uint8Array, name = 'model'): Source {
  return { name, size: bytes.byteLength, read: (offset, length) => bytes.subarray(offset, offset + length) };
}

/** A part of a source: a message, a string, raw bytes. */
export interface Span {
  readonly source: Source;
  readonly start: number;
  readonly end: number;
}

export interface Field {
  readonly number: number;
  /** An integer (wire type 0), four or eight bytes (5, 1), or a length and as many bytes (2). */
  readonly value: bigint | Span;
  readonly wire: number;
}

/** The error for a file that breaks off or contradicts itself at a byte. */
export function damaged(source: Source, at: number, what: string): LapidaryError {
  return new LapidaryError({
    what: `not a readable ONNX file: ${what}`,
    where: source.name,
    found: `byte ${at} of ${source.size}`,
    fix: 'download or export the file again',
  });
}

const windowSize = 4096;

/** Reads a source through a small window, so that headers of a large file take few reads. */
class Cursor {
  readonly span: Span;
  position: number;
  #window: Uint8Array = new Uint8Array(0);
  #start = 0;

  constructor(span: Span) {
    this.span = span;
    this.position = span.start;
  }

  byte(): number {
    const { source, end } = this.span;
    if (this.position >= end) throw damaged(source, this.position, 'a message ends inside a field');
    let index = this.position - this.#start;
    if (index < 0 || index >= this.#window.length) {
      this.#window = source.read(this.position, Math.min(windowSize, end - this.position));
      this.#start = this.position;
      index = 0;
    }
    this.position++;
    return this.#window[index];
  }

  varint(): bigint {
    let low = 0;
    let shift = 0;
    // Most are short: numbers until 28 bits, then big ones.
    for (; shift < 28; shift += 7) {
      const byte = this.byte();
      low |= (byte & 127) << shift;
      if (byte < 128) return BigInt(low);
    }
    let value = BigInt(low);
    for (; shift < 70; shift += 7) {
      const byte = this.byte();
      value |= BigInt(byte & 127) << BigInt(shift);
      if (byte < 128) return BigInt.asUintN(64, value);
    }
    throw damaged(this.span.source, this.position, 'an integer of more than ten bytes');
  }

  take(length: bigint): Span {
    const { source, end } = this.span;
    if (length > BigInt(end - this.position)) {
      throw damaged(
        source,
        this.position,
        `a field of ${length} bytes where ${end - this.position} are left`,
      );
    }
    const start = this.position;
    this.position += Number(length);
    return { source, start, end: this.position };
  }
}

/** The fields of a message in order. */
export function* fieldsOf(span: Span): Generator<Field> {
  const cursor = new Cursor(span);
  while (cursor.position < span.end) {
    const key = cursor.varint();
    const wire = Number(key & 7n);
    const number = Number(key >> 3n);
    if (number === 0 || number > 2 ** 29)
      throw damaged(span.source, cursor.position, `field number ${number}`);
    if (wire === 0) yield { number, wire, value: cursor.varint() };
    else if (wire === 1) yield { number, wire, value: cursor.take(8n) };
    else if (wire === 2) yield { number, wire, value: cursor.take(cursor.varint()) };
    else if (wire === 5) yield { number, wire, value: cursor.take(4n) };
    else throw damaged(span.source, cursor.position, `wire type ${wire}`);
  }
}

/** Integers packed into one field. */
export function* varintsOf(span: Span): Generator<bigint> {
  const cursor = new Cursor(span);
  while (cursor.position < span.end) yield cursor.varint();
}

export const bytesOf = ({ source, start, end }: Span): Uint8Array => source.read(start, end - start);
