/** Content hashes: files are streamed through them, since weights and data may be larger than memory. */

import type { Hash } from 'node:crypto';
import { createHash } from 'node:crypto';
import { readSync } from 'node:fs';
import type { FileIdentity } from './range.ts';
import { withFile, withKnownFile } from './range.ts';

/**
 * The file's sha256, in hexadecimal.
 * @throws LapidaryError where it cannot be read, or is not the file that was known by now
 */
export function fileHash(source: string | FileIdentity): string {
  const hash = createHash('sha256');
  addFile(hash, source);
  return hash.digest('hex');
}

/** Adds a file's bytes to a hash. */
export function addFile(hash: Hash, source: string | FileIdentity): void {
  const add = (file: number) => {
    const chunk = Buffer.allocUnsafe(2 ** 20);
    for (let count = readSync(file, chunk); count > 0; count = readSync(file, chunk)) {
      hash.update(chunk.subarray(0, count));
    }
  };
  if (typeof source === 'string') withFile(source, 'readable', add);
  else withKnownFile(source, 'readable', add);
}
