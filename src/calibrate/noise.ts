/** Tries a method on a few rows of noise, to know before the work what it will make of a matrix, without reading a weight. */

import { random } from '../base/random.ts';
import type { Encoding } from '../encodings/encoding.ts';
import { asLinear } from './compress.ts';
import { unitStatistic } from './statistics.ts';
import type { Assignment } from './targets.ts';

const rows = 16;

/** Noise in rows of a width as a method would compress it; each method with its options and width once. */
export type Sampler = (assignment: Assignment, width: number) => Promise<Encoding>;

export function openSampler(): Sampler {
  const known = new Map<string, Promise<Encoding>>();
  return (assignment, width) => {
    const { method, options } = assignment;
    // Wide ones end as narrow ones of the same remainder do.
    const columns = width > 512 ? 256 + (width % 256) : width;
    const key = JSON.stringify([method.name, options, columns]);
    const sample = known.get(key) ?? noiseOf(assignment, [rows, columns]);
    known.set(key, sample);
    return sample;
  };
}

/** A matrix of noise as a method would compress it. */
export async function noiseOf(
  { method, options }: Assignment,
  [rows, columns]: readonly [rows: number, columns: number],
): Promise<Encoding> {
  const { normal } = random(0);
  const values = Float32Array.from({ length: rows * columns }, normal);
  return asLinear(method).compress({ rows, columns, values }, unitStatistic('full', columns), options);
}
