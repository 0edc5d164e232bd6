/**
 * Output that appears under its final name only when it is whole: a file is written beside its place and renamed, a
 * folder is filled beside its place and moved. What fails or is interrupted leaves nothing behind but the hidden
 * temporary name, and that is removed at once, or, where the process is killed outright, by the next one that writes the
 * same.
 */

import {
  closeSync,
  existsSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join, relative, resolve, sep } from 'node:path';
import { ExitCode, LapidaryError } from '../base/errors.ts';
import type { Kind, Leftover } from './partial.ts';
import { leftovers, temporaryName } from './partial.ts';
import { attempt } from './system-error.ts';

/** A file on its way. */
export interface OutputFile {
  write(bytes: Uint8Array): void;
  /** Flushes it to the disk and moves it to its name, over a file that was there. */
  commit(): void;
  /** Removes what was written; does nothing after commit. */
  abandon(): void;
}

export interface OutputFolder {
  /** Its final place. */
  readonly path: string;
  /** Where it is filled until then. */
  readonly staging: string;
  /** The path to write one of its files to now; makes the folders above it. "onnx/model.onnx" is a name. */
  file(name: string): string;
  write(name: string, bytes: Uint8Array): void;
  /** Flushes everything to the disk and moves it to its final place. */
  commit(): void;
  /** Removes what was written; does nothing after commit. */
  abandon(): void;
}

/** @throws LapidaryError (system) where the file cannot be made. */
export function openOutputFile(path: string): OutputFile {
  const target = resolve(path);
  if (existsSync(target) && !statSync(target).isFile()) {
    throw new LapidaryError({
      what: 'not a file that can be replaced',
      where: path,
      fix: 'choose another name',
    });
  }
  removeLeft(target, 'partial');
  const temporary = temporaryName(target, 'partial');
  const file = attempt(path, () => openSync(temporary, 'wx'));
  unfinished.add(temporary);
  let open = true;
  const close = () => {
    if (open) closeSync(file);
    open = false;
  };
  return {
    write: (bytes) => attempt(path, () => writeAll(file, bytes)),
    commit() {
      attempt(path, () => {
        fsyncSync(file);
        close();
        renameSync(temporary, target);
        flush(dirname(target));
      });
      unfinished.delete(temporary);
    },
    abandon() {
      close();
      if (unfinished.delete(temporary)) rmSync(temporary, { force: true });
    },
  };
}

/** Writes a file whole or not at all. */
export function writeFileAtomic(path: string, bytes: Uint8Array): void {
  const file = openOutputFile(path);
  try {
    file.write(bytes);
    file.commit();
  } finally {
    file.abandon();
  }
}

export interface FolderOptions {
  /** Lets `commit` replace a folder that is not empty, all of it. */
  readonly overwrite?: boolean;
  /** Asked of a folder that is not empty, without `overwrite`; may throw to say what is there. */
  readonly mayReplace?: ((folder: string) => boolean) | undefined;
  /** Files and folders that the work reads: they are never replaced. Those that do not exist are ignored. */
  readonly reads?: readonly (string | undefined)[];
}

/** @throws LapidaryError where the folder is in use, by another process too, or cannot be made. */
export function createOutputFolder(path: string, options: FolderOptions = {}): OutputFolder {
  const target = placeOf(path);
  checkTarget(target, path, options);
  const staging = temporaryName(target, 'partial');
  attempt(path, () => {
    mkdirSync(dirname(target), { recursive: true });
    mkdirSync(staging);
  });
  unfinished.add(staging);
  try {
    claim(target, staging, path);
  } catch (error) {
    abandon();
    throw error;
  }

  function abandon(): void {
    if (unfinished.delete(staging)) rmSync(staging, { recursive: true, force: true });
  }

  function file(name: string): string {
    const place = resolve(staging, name);
    if (name === '' || name.includes('\0') || /^[A-Za-z]:|\\/.test(name) || !isInside(place, staging)) {
      throw new LapidaryError({
        what: 'a file name that leaves its folder',
        where: JSON.stringify(name),
        expected: `a name inside ${path}`,
        fix: 'the model asks for this file; do not trust it',
      });
    }
    attempt(path, () => mkdirSync(dirname(place), { recursive: true }));
    return place;
  }

  return {
    path: target,
    staging,
    file,
    write(name, bytes) {
      const place = file(name);
      attempt(join(path, name), () => {
        const descriptor = openSync(place, 'w');
        try {
          writeAll(descriptor, bytes);
        } finally {
          closeSync(descriptor);
        }
      });
    },
    commit() {
      // Looked at again: whoever filled it meanwhile must not lose anything.
      checkTarget(target, path, options);
      attempt(path, () => {
        flushTree(staging);
        moveInto(staging, target);
        flush(dirname(target));
      });
      unfinished.delete(staging);
      removeLeft(target, 'replaced');
    },
    abandon,
  };
}

/** The folder itself where a link stands for it: that one is filled, and the link stays. */
function placeOf(path: string): string {
  const target = resolve(path);
  return isLink(target) && existsSync(target) ? realpathSync(target) : target;
}

function isLink(path: string): boolean {
  try {
    return lstatSync(path).isSymbolicLink();
  } catch {
    return false;
  }
}

function checkTarget(target: string, path: string, options: FolderOptions): void {
  const { overwrite, mayReplace, reads = [] } = options;
  if (!existsSync(target)) {
    if (!isLink(target)) return;
    throw new LapidaryError({
      what: 'a link that leads nowhere stands where the output folder goes',
      where: path,
      fix: 'make the folder that it leads to, or choose another name',
    });
  }
  if (!statSync(target).isDirectory()) {
    throw new LapidaryError({
      what: 'a file stands where the output folder goes',
      where: path,
      fix: 'choose another name, or remove the file',
    });
  }
  const held = readdirSync(target).length;
  if (held === 0) return;
  const real = realpathSync(target);
  const holds = (other: string) => other === real || isInside(other, real);
  const read = reads.find((other) => other !== undefined && existsSync(other) && holds(realpathSync(other)));
  if (read !== undefined) {
    throw new LapidaryError(
      {
        what: 'refusing to replace a folder that holds what is read',
        where: path,
        found: read,
        fix: 'choose another folder for the output',
      },
      ExitCode.usage,
    );
  }
  if (!overwrite && !mayReplace?.(path)) {
    throw new LapidaryError({
      what: 'the output folder is not empty',
      where: path,
      expected: 'a folder that does not exist yet or is empty',
      found: `${held} entries`,
      fix: 'choose another, or say --overwrite to replace all of it',
    });
  }
  if (holds(process.cwd()) || holds(homedir())) {
    throw new LapidaryError({
      what: 'refusing to replace a folder that holds the working folder or your home',
      where: path,
      fix: 'choose a folder of its own for the output',
    });
  }
}

function isInside(path: string, folder: string): boolean {
  const way = relative(folder, path);
  return way !== '' && way !== '..' && !way.startsWith(`..${sep}`) && resolve(folder, way) === path;
}

/** Whether some process writes this output now. */
export const isBeingWritten = (path: string): boolean => leftovers(placeOf(path), 'partial').some(isInUse);

/**
 * Does something that no run of this output may see half done.
 * @throws LapidaryError where another writes it now
 */
export function whileNobodyWrites(path: string, action: () => void): void {
  const target = placeOf(path);
  const held = temporaryName(target, 'partial');
  attempt(path, () => mkdirSync(held));
  unfinished.add(held);
  try {
    claim(target, held, path);
    attempt(path, action);
  } finally {
    if (unfinished.delete(held)) rmSync(held, { recursive: true, force: true });
  }
}

/** Made first and looked for then, so that of two at once not both go on. */
function claim(target: string, staging: string, path: string): void {
  const other = leftovers(target, 'partial').find((left) => isInUse(left) && left.path !== staging);
  if (other) {
    throw new LapidaryError(
      {
        what: 'another run writes this output now',
        where: path,
        found: other.pid === process.pid ? 'one of this process' : `process ${other.pid}`,
        fix: 'wait for it or end it, or choose another name',
      },
      ExitCode.system,
    );
  }
  removeLeft(target, 'partial');
}

const isInUse = ({ path, alive }: Leftover): boolean => alive || unfinished.has(path);

/** What killed processes left of a target; what cannot be removed is in nobody's way. */
function removeLeft(target: string, kind: Kind): void {
  for (const left of leftovers(target, kind)) {
    if (isInUse(left)) continue;
    try {
      rmSync(left.path, { recursive: true, force: true });
    } catch {
      // It stays.
    }
  }
}

/**
 * Puts a folder in another's place; the old one is back if that fails. A kill between the two moves leaves the old one
 * under its hidden name, until a new one is in place.
 */
function moveInto(staging: string, target: string): void {
  if (!existsSync(target)) {
    renameSync(staging, target);
    return;
  }
  const old = temporaryName(target, 'replaced');
  renameSync(target, old);
  try {
    renameSync(staging, target);
  } catch (cause) {
    renameSync(old, target);
    throw cause;
  }
  rmSync(old, { recursive: true, force: true });
}

function writeAll(file: number, bytes: Uint8Array): void {
  let done = 0;
  while (done < bytes.byteLength)
    done += writeSync(file, bytes, done, Math.min(bytes.byteLength - done, 2 ** 30));
}

function flushTree(folder: string): void {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) flushTree(path);
    else flush(path);
  }
  flush(folder);
}

/** Best effort: some systems cannot flush folders, and a device has nothing to flush. */
function flush(path: string): void {
  let file: number | undefined;
  try {
    file = openSync(path, 'r');
    fsyncSync(file);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    if (code === 'ENOSPC' || code === 'EDQUOT' || code === 'EIO') throw cause;
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

/** Temporary names that exist now; listeners are installed only while there are any. */
const unfinished = (() => {
  const paths = new Set<string>();
  const signals: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP'];
  const clean = () => {
    for (const path of paths) rmSync(path, { recursive: true, force: true });
    paths.clear();
  };
  // Where others listen, they decide what the signal means: work may go on, or abandon its output in order.
  const onSignal = (signal: NodeJS.Signals) => {
    if (process.listenerCount(signal) > 1) return;
    clean();
    listen(false);
    process.kill(process.pid, signal);
  };
  function listen(on: boolean): void {
    const change = on ? 'on' : 'off';
    for (const signal of signals) process[change](signal, onSignal);
    process[change]('exit', clean);
  }
  return {
    add(path: string): void {
      if (paths.size === 0) listen(true);
      paths.add(path);
    },
    has: (path: string): boolean => paths.has(path),
    delete(path: string): boolean {
      const known = paths.delete(path);
      if (known && paths.size === 0) listen(false);
      return known;
    },
  };
})();
