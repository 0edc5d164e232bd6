/** Reads changed files one after the other, and says which of them something else happened at than an answer or a LapidaryError. */

import { LapidaryError } from '../../src/base/errors.ts';
import { random } from '../../src/base/random.ts';
import type { Reader } from './readers.ts';

/** Of the processor, so that a busy machine is no hang. */
const mostMilliseconds = 5000;
/** Over what the process has when it begins. */
const mostBytes = 2 ** 30;

export interface Failure {
  readonly reader: string;
  readonly seed: number;
  readonly index: number;
  readonly what: string;
}

export interface Outcome {
  readonly read: number;
  readonly refused: number;
  readonly failures: readonly Failure[];
}

/** The file of a case, alone: what a seed and an index say, whatever cases came before. */
export const changedFile = ({ name, original, mutate }: Reader, seed: number, index: number): Uint8Array =>
  mutate(original, random(seed).fork(`${name} ${index}`));

/** Cases from an index on. @param told each index before it is read */
export async function fuzz(
  reader: Reader,
  { seed, from = 0, count }: { readonly seed: number; readonly from?: number; readonly count: number },
  told: (index: number) => void = () => {},
): Promise<Outcome> {
  const failures: Failure[] = [];
  let [read, refused] = [0, 0];
  let peak = process.resourceUsage().maxRSS * 1024;
  for (let index = from; index < from + count; index++) {
    const bytes = changedFile(reader, seed, index);
    const fail = (what: string) => failures.push({ reader: reader.name, seed, index, what });
    told(index);
    const began = process.cpuUsage();
    try {
      await reader.read(bytes);
      read++;
    } catch (error) {
      if (error instanceof LapidaryError) refused++;
      else fail((error as Error)?.stack ?? String(error));
    }
    const { user, system } = process.cpuUsage(began);
    if ((user + system) / 1000 > mostMilliseconds) fail(`it took ${(user + system) / 1e6} s`);
    const now = process.resourceUsage().maxRSS * 1024;
    if (now - peak > mostBytes) fail(`it took ${now - peak} bytes`);
    if (now > peak) peak = now;
  }
  return { read, refused, failures };
}
