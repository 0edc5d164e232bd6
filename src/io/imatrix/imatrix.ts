/**
 * Importance matrices of llama.cpp: for each weight the sums of its squared inputs, column by column, that llama-imatrix
 * collects over a text and llama-quantize rounds by. Two forms hold them: GGUF, and the older one without keys.
 */

import { withFile, readRange } from '../range.ts';
import { writeFileAtomic } from '../output.ts';
import { encodeDat, parseDat } from './dat.ts';
import type { Imatrix, WritableImatrix } from './entries.ts';
import { readGgufForm, writeGgufForm } from './gguf.ts';

export type { Imatrix, ImatrixEntry, WritableImatrix } from './entries.ts';

export type ImatrixForm = 'gguf' | 'dat';

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

/**
 * As llama-imatrix does, in the order of the weights' names; whole or not at all.
 * @throws LapidaryError where the disk does not take it
 */
export async function writeImatrix(path: string, imatrix: WritableImatrix, form: ImatrixForm): Promise<void> {
  const entries = new Map([...imatrix.entries].toSorted(([a], [b]) => (a < b ? -1 : 1)));
  if (form === 'gguf') await writeGgufForm(path, { ...imatrix, entries });
  else writeFileAtomic(path, encodeDat({ ...imatrix, entries }));
}
