/**
 * Reads GGUF, the format of llama.cpp (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), by offset: opening
 * a file reads its header alone, and a tensor's bytes, still in the blocks they are stored in, when asked for.
 */

import type { GgmlType } from '../../base/ggml.ts';
import { fileHash } from '../hash.ts';
import { readTensor, withFile } from '../range.ts';
import { readHeader } from './header.ts';
import type { GgufMetadata } from './types.ts';

export interface GgufTensor {
  readonly type: GgmlType;
  /** Rows first: a matrix is [out, in]. */
  readonly shape: readonly number[];
  /** Where it begins in the file. */
  readonly offset: number;
  readonly byteLength: number;
  /** Reads its bytes: blocks of `type`, row after row. Callers must not write into them. */
  bytes(): Uint8Array;
  /** The same of a part, from so many bytes behind its beginning. */
  range(from: number, length: number): Uint8Array;
}

export interface GgufFile {
  readonly path: string;
  readonly version: number;
  /** In the order of the file. */
  readonly metadata: GgufMetadata;
  /** In the order of the file. */
  readonly tensors: ReadonlyMap<string, GgufTensor>;
  /** sha256 of the whole file, in hexadecimal; reads it once. */
  identity(): string;
}

/** @throws LapidaryError for a file that cannot be read, or whose header breaks a rule of the format */
export function openGguf(path: string): GgufFile {
  let identity: string | undefined;
  return withFile(path, 'GGUF', (file, fileBytes, known) => {
    const { version, metadata, tensors, dataStart } = readHeader(file, fileBytes, path);
    return {
      path,
      version,
      metadata,
      tensors: new Map(
        tensors.map(({ name, type, shape, offset, byteLength }) => {
          const start = dataStart + offset;
          const range = (from: number, length: number) =>
            readTensor({ file: known, name, start: start + from, length });
          const bytes = () => range(0, byteLength);
          return [name, { type, shape, offset: start, byteLength, bytes, range }];
        }),
      ),
      identity: () => (identity ??= fileHash(known)),
    };
  });
}
