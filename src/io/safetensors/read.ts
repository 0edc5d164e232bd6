/**
 * Reads safetensors by offset: opening a file reads its header alone, and each tensor is read when its bytes are
 * asked for; so a model larger than memory opens at once.
 */

import { LapidaryError } from '../../base/errors.ts';
import type { DType, Stored } from '../../base/tensor.ts';
import type { FileIdentity } from '../range.ts';
import { readRange, readTensor, withFile } from '../range.ts';
import { dtypeNames, maxHeaderBytes, parseHeader } from './header.ts';

export interface SafetensorsFile {
  readonly path: string;
  /** As it was opened. */
  readonly identity: FileIdentity;
  /** By name, in the order of the header. */
  readonly tensors: ReadonlyMap<string, Stored>;
  /** Tensors of types that nothing here computes with (8-bit floats, unsigned words): what they are, by name. */
  readonly unsupported: ReadonlyMap<
    string,
    { readonly dtype: string; readonly shape: readonly number[]; readonly byteLength: number }
  >;
  readonly metadata: ReadonlyMap<string, string>;
}

/** @throws LapidaryError for a file that cannot be read, or whose header breaks a rule of the format. */
export function openSafetensors(path: string): SafetensorsFile {
  const { header, identity, dataStart } = readHeader(path);
  const tensors = new Map<string, Stored>();
  const unsupported = new Map<string, { dtype: string; shape: readonly number[]; byteLength: number }>();
  for (const { name, dtype, shape, begin, end } of header.entries) {
    const known: DType | undefined = dtypeNames[dtype];
    if (known === undefined) {
      unsupported.set(name, { dtype, shape, byteLength: end - begin });
      continue;
    }
    const byteLength = end - begin;
    const range = { file: identity, name, start: dataStart + begin, length: byteLength };
    tensors.set(name, { dtype: known, shape, byteLength, bytes: (room) => readTensor(range, room) });
  }
  return { path, identity, tensors, unsupported, metadata: header.metadata };
}

function readHeader(path: string) {
  return withFile(path, 'safetensors', (file, fileBytes, identity) => {
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
    return { header, identity, dataStart };
  });
}
