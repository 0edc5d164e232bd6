/**
 * Importance matrices of llama.cpp: for each weight the sums of its squared inputs, column by column, that llama-imatrix
 * collects over a text and llama-quantize rounds by. Two forms hold them: GGUF, and the older one without keys.
 */

import { withFile, readRange } from '../range.ts';
import { writeFileAtomic } from '../output.ts';
import { encodeDat, parseDat } from './dat.ts';
import { readGgufForm, writeGgufForm } from './gguf.ts';

export type ImatrixForm = 'gguf' | 'dat';

/** Of one weight; of experts that lie in one tensor, of each. */
export interface ImatrixEntry {
  /** Sums of the squared inputs, row-major [experts, columns]; without experts there is one row. */
  readonly sums: Float32Array;
  /** What each row is a sum of, [experts]: tokens, or in the older form chunks, whose sums are of means; 0 for nothing. */
  readonly counts: Float32Array;
}

export interface Imatrix {
  /** By the weight's name in GGUF: "blk.0.attn_q.weight". */
  readonly entries: ReadonlyMap<string, ImatrixEntry>;
  /** The texts that it was made from, as its maker named them. */
  readonly datasets: readonly string[];
  /** Pieces of text that were run; undefined where the file does not say. */
  readonly chunks?: number | undefined;
  /** Tokens of each; the older form does not say. */
  readonly chunkSize?: number | undefined;
}

/**
 * Either form, whatever the file is called.
 * @throws LapidaryError on a file that is neither, ends early, or has sums or counts that cannot be
 */
export function readImatrix(path: string): Imatrix {
  const isGguf = withFile(path, 'importance matrix', (file, size) => {
    return size >= 4 && Buffer.from(readRange(file, 0, 4, path)).toString('latin1') === 'GGUF';
  });
  return isGguf ? readGgufForm(path) : parseDat(path);
}

/** With all that llama-imatrix says of it; counts are of tokens. */
export interface WritableImatrix extends Imatrix {
  readonly chunks: number;
  readonly chunkSize: number;
}

/**
 * As llama-imatrix does, in the order of the weights' names; whole or not at all.
 * @throws LapidaryError where the disk does not take it
 */
export async function writeImatrix(path: string, imatrix: WritableImatrix, form: ImatrixForm): Promise<void> {
  const entries = new Map([...imatrix.entries].toSorted(([a], [b]) => (a < b ? -1 : 1)));
  if (form === 'gguf') await writeGgufForm(path, { ...imatrix, entries });
  else writeFileAtomic(path, encodeDat({ ...imatrix, entries }));
}
