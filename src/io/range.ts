/** Ranges of files, opened for each reading: a model of a thousand tensors holds no file open. */

import { constants } from 'node:buffer';
import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { LapidaryError } from '../base/errors.ts';

/** Calls `use` with the open file and its size. @throws LapidaryError where it is no file or cannot be read */
export function withFile<T>(path: string, kind: string, use: (file: number, size: number) => T): T {
  let file: number;
  try {
    // Asked before it is opened: opening a pipe waits for whoever writes to it.
    if (!statSync(path).isFile()) {
      throw new LapidaryError({ what: 'not a file', where: path, expected: `a ${kind} file` });
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

/** @throws LapidaryError where the file ends before that */
export function readRange(
  file: number,
  start: number,
  length: number,
  path: string,
): Uint8Array<ArrayBuffer> {
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

export interface TensorRange {
  readonly path: string;
  readonly name: string;
  readonly start: number;
  readonly length: number;
  /** Size of the file when it was opened: one that changed meanwhile is not read. */
  readonly fileBytes: number;
}

/** The bytes of a tensor, as a reader hands them out. */
export function readTensor({ path, name, start, length, fileBytes }: TensorRange): Uint8Array {
  if (length > constants.MAX_LENGTH) {
    throw new LapidaryError({
      what: `tensor "${name}" is larger than this Node can hold in one piece`,
      where: path,
      expected: `at most ${constants.MAX_LENGTH} bytes`,
      found: `${length}`,
      fix: 'use a newer Node',
    });
  }
  return withFile(path, 'weights', (file, size) => {
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

function unreadable(path: string, cause: unknown): LapidaryError {
  const code = (cause as NodeJS.ErrnoException).code;
  const what = code === 'ENOENT' ? 'no such file' : `cannot be read (${code ?? String(cause)})`;
  const fix = code === 'EACCES' ? 'give yourself permission to read it' : 'check the path';
  return new LapidaryError({ what, where: path, fix, cause });
}
