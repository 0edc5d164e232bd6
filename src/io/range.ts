/**
 * Ranges of files, opened for each reading: a model of a thousand tensors holds no file open. A file that is read again
 * later must still be the one that was opened first: weights of two files in one model would be silently wrong.
 */

import { constants } from 'node:buffer';
import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { LapidaryError } from '../base/errors.ts';

/**
 * A file as it was when it was opened first. Inode numbers are not asked for: some network file systems change them
 * from one opening to the next.
 */
export interface FileIdentity {
  readonly path: string;
  readonly size: number;
  /** When it was last written, in nanoseconds since 1970. */
  readonly modified: bigint;
}

/** Calls `use` with the open file. @throws LapidaryError where it is no file or cannot be read */
export function withFile<T>(
  path: string,
  kind: string,
  use: (file: number, size: number, identity: FileIdentity) => T,
): T {
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
    const identity = identityOf(file, path);
    return use(file, identity.size, identity);
  } finally {
    closeSync(file);
  }
}

/**
 * The same for a file that was open before.
 * @throws LapidaryError where it has been changed, replaced or removed since, also while `use` read it
 */
export function withKnownFile<T>(known: FileIdentity, kind: string, use: (file: number) => T): T {
  const { path } = known;
  if (!statSync(path, { throwIfNoEntry: false })) throw changed(known, 'no file');
  return withFile(path, kind, (file, _, identity) => {
    checkSame(known, identity);
    const result = use(file);
    checkSame(known, identityOf(file, path));
    return result;
  });
}

/** @throws LapidaryError where it is no file or cannot be read */
export const identify = (path: string): FileIdentity =>
  withFile(path, 'readable', (_, __, identity) => identity);

/** @throws LapidaryError where the file has been changed, replaced or removed since */
export const checkUnchanged = (known: FileIdentity): void => withKnownFile(known, 'readable', () => {});

function identityOf(file: number, path: string): FileIdentity {
  const { size, mtimeNs } = fstatSync(file, { bigint: true });
  return { path, size: Number(size), modified: mtimeNs };
}

function checkSame(known: FileIdentity, { size, modified }: FileIdentity): void {
  if (size !== known.size) throw changed(known, `${size} bytes`);
  if (modified !== known.modified) throw changed(known, `written again, ${dated(modified)}`);
}

function changed(known: FileIdentity, found: string): LapidaryError {
  return new LapidaryError({
    what: 'the file changed while it was in use',
    where: known.path,
    expected: `${known.size} bytes of ${dated(known.modified)}, as when it was opened`,
    found,
    fix: 'wait until nothing writes to it, then run again',
  });
}

const dated = (nanoseconds: bigint): string => new Date(Number(nanoseconds / 1_000_000n)).toISOString();

/** @throws LapidaryError where the file ends before that */
export function readRange(
  file: number,
  start: number,
  length: number,
  path: string,
): Uint8Array<ArrayBuffer> {
  const { buffer, byteOffset } = Buffer.allocUnsafeSlow(length);
  // A plain Uint8Array: slice() of a Buffer would share instead of copy.
  return fill(new Uint8Array(buffer, byteOffset, length), file, start, path);
}

/** @returns `target` */
function fill<T extends Uint8Array>(target: T, file: number, start: number, path: string): T {
  const { length } = target;
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
  return target;
}

export interface TensorRange {
  readonly file: FileIdentity;
  readonly name: string;
  readonly start: number;
  readonly length: number;
}

/**
 * The bytes of a tensor, as a reader hands them out.
 * @param room as of `Stored.bytes`
 * @throws LapidaryError where its file is another by now
 */
export function readTensor({ file: known, name, start, length }: TensorRange, room?: Uint8Array): Uint8Array {
  if (length > constants.MAX_LENGTH) {
    throw new LapidaryError({
      what: `tensor "${name}" is larger than this Node can hold in one piece`,
      where: known.path,
      expected: `at most ${constants.MAX_LENGTH} bytes`,
      found: `${length}`,
      fix: 'use a newer Node',
    });
  }
  const { path } = known;
  return withKnownFile(known, 'weights', (file) =>
    room && room.length >= length
      ? fill(room.subarray(0, length), file, start, path)
      : readRange(file, start, length, path),
  );
}

function unreadable(path: string, cause: unknown): LapidaryError {
  const code = (cause as NodeJS.ErrnoException).code;
  const what = code === 'ENOENT' ? 'no such file' : `cannot be read (${code ?? String(cause)})`;
  const fix = code === 'EACCES' ? 'give yourself permission to read it' : 'check the path';
  return new LapidaryError({ what, where: path, fix, cause });
}
