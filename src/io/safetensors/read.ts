/**
 * Reads safetensors by offset: opening a file reads its header alone, and each tensor is read when its bytes are
 * asked for; so a model larger than memory opens at once.
 */

import { constants } from 'node:buffer';
import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { LapidaryError } from '../../base/errors.ts';
import type { DType, Stored } from '../../base/tensor.ts';
import { dtypeNames, maxHeaderBytes, parseHeader } from './header.ts';

export interface SafetensorsFile {
  readonly path: string;
  /** By name, in the order of the header. */
  readonly tensors: ReadonlyMap<string, Stored>;
  /** Tensors of types that nothing here computes with (8-bit floats, unsigned words): what they are, by name. */
  readonly unsupported: ReadonlyMap<string, { readonly dtype: string; readonly shape: readonly number[] }>;
  readonly metadata: ReadonlyMap<string, string>;
}

/** @throws LapidaryError for a file that cannot be read, or whose header breaks a rule of the format. */
export function openSafetensors(path: string): SafetensorsFile {
  const { header, fileBytes, dataStart } = readHeader(path);
  const tensors = new Map<string, Stored>();
  const unsupported = new Map<string, { dtype: string; shape: readonly number[] }>();
  for (const { name, dtype, shape, begin, end } of header.entries) {
    const known: DType | undefined = dtypeNames[dtype];
    if (known === undefined) {
      unsupported.set(name, { dtype, shape });
      continue;
    }
    const byteLength = end - begin;
    const bytes = () => readTensor(path, name, dataStart + begin, byteLength, fileBytes);
    tensors.set(name, { dtype: known, shape, byteLength, bytes });
  }
  return { path, tensors, unsupported, metadata: header.metadata };
}

function readHeader(path: string) {
  return withFile(path, (file, fileBytes) => {
    const refuse = (what: string, expected: string, found: string): never => {
      const fix = 'the file is cut short, damaged, or not safetensors; fetch it again';
      throw new LapidaryError({ what, where: path, expected, found, fix });
    };
    if (fileBytes < 8) refuse('too short for safetensors', 'at least 8 bytes', `${fileBytes}`);
    const length = new DataView(readRange(file, 0, 8, path).buffer).getBigUint64(0, true);
    if (length > BigInt(fileBytes - 8)) {
      refuse('the header is longer than the file', `at most ${fileBytes - 8} bytes`, `${length}`);
    }
    if (length > BigInt(maxHeaderBytes)) {
      refuse('the header is longer than the format allows', `at most ${maxHeaderBytes} bytes`, `${length}`);
    }
    const dataStart = 8 + Number(length);
    const header = parseHeader(readRange(file, 8, Number(length), path), fileBytes - dataStart, path);
    return { header, fileBytes, dataStart };
  });
}

function readTensor(
  path: string,
  name: string,
  start: number,
  length: number,
  fileBytes: number,
): Uint8Array {
  if (length > constants.MAX_LENGTH) {
    throw new LapidaryError({
      what: `tensor "${name}" is larger than this Node can hold in one piece`,
      where: path,
      expected: `at most ${constants.MAX_LENGTH} bytes`,
      found: `${length}`,
      fix: 'use a newer Node',
    });
  }
  return withFile(path, (file, size) => {
    if (size !== fileBytes) {
      throw new LapidaryError({
        what: 'the file changed while it was in use',
        where: path,
        expected: `${fileBytes} bytes, as when it was opened`,
        found: `${size}`,
        fix: 'wait until nothing writes to it, then run again',
      });
    }
    return readRange(file, start, length, path);
  });
}

function withFile<T>(path: string, use: (file: number, size: number) => T): T {
  let file: number;
  try {
    // Asked before it is opened: opening a pipe waits for whoever writes to it.
    if (!statSync(path).isFile()) {
      throw new LapidaryError({ what: 'not a file', where: path, expected: 'a safetensors file' });
    }
    file = openSync(path, 'r');
  } catch (cause) {
    throw cause instanceof LapidaryError ? cause : unreadable(path, cause);
  }
  try {
    return use(file, fstatSync(file).size);
  } finally {
    closeSync(file);
  }
}

function readRange(file: number, start: number, length: number, path: string): Uint8Array<ArrayBuffer> {
  const target = Buffer.allocUnsafeSlow(length);
  let done = 0;
  while (done < length) {
    let count: number;
    try {
      count = readSync(file, target, done, Math.min(length - done, 2 ** 30), start + done);
    } catch (cause) {
      throw unreadable(path, cause);
    }
    if (count === 0) {
      throw new LapidaryError({
        what: 'the file ended while it was read',
        where: path,
        expected: `${length} bytes at ${start}`,
        found: `${done}`,
        fix: 'wait until nothing writes to it, then run again',
      });
    }
    done += count;
  }
  // A plain Uint8Array: slice() of a Buffer would share instead of copy.
  return new Uint8Array(target.buffer as ArrayBuffer, target.byteOffset, length);
}

function unreadable(path: string, cause: unknown): LapidaryError {
  const code = (cause as NodeJS.ErrnoException).code;
  const what = code === 'ENOENT' ? 'no such file' : `cannot be read (${code ?? String(cause)})`;
  const fix = code === 'EACCES' ? 'give yourself permission to read it' : 'check the path';
  return new LapidaryError({ what, where: path, fix, cause });
}
