/** Content hashes: files are streamed through them, since weights and data may be larger than memory. */

import type { Hash } from 'node:crypto';
import { createHash } from 'node:crypto';
import { closeSync, openSync, readSync } from 'node:fs';

/** The file's sha256, in hexadecimal. */
export function fileHash(path: string): string {
  const hash = createHash('sha256');
  addFile(hash, path);
  return hash.digest('hex');
}

/** Adds a file's bytes to a hash. */
export function addFile(hash: Hash, path: string): void {
  const chunk = Buffer.allocUnsafe(2 ** 20);
  const file = openSync(path, 'r');
  try {
    for (let count = readSync(file, chunk); count > 0; count = readSync(file, chunk)) {
      hash.update(chunk.subarray(0, count));
    }
  } finally {
    closeSync(file);
  }
}
