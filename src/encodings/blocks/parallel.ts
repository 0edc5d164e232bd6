/** The searches of search.ts over whole rows, in the kernels, on all threads. Layouts: kernels/blocks.ts. */

import type { KernelName, Kernels } from '../../kernels/kernels.ts';
import { withKernels } from '../../kernels/kernels.ts';
import type { ErrorWeight, Found, Search } from './search.ts';
import { spreadOf } from './search.ts';

export interface Rows {
  /** Whole rows of `columns`. */
  readonly values: Float32Array;
  readonly columns: number;
  /** Of each column. */
  readonly importance?: Float32Array | undefined;
  /** Weights of a part and of a block. */
  readonly part: number;
  readonly size: number;
}

/** Weights that are searched at once, at least a row: so many that the threads' work outweighs their waking up. */
const chunk = 2 ** 20;
/** Parts that a kernel takes together. */
const abreast = 4;

const rules: Record<ErrorWeight, number> = {
  size: 0,
  'size and mean': 1,
  square: 2,
  importance: 3,
  'importance and size': 4,
};

const kernelOf: Record<Search['kind'], KernelName> = {
  span: 'blockSpans',
  scale: 'blockScales',
  descent: 'blockDescents',
  levels: 'blockLevels',
};

/**
 * Gives what was found chunk by chunk, in order; the arrays are overwritten by the next.
 * @param use is told where the chunk begins and its values
 * @param threads see `withKernels`; the result does not depend on it
 */
export async function searchRows(
  search: Search,
  { values, columns, importance, part, size }: Rows,
  use: (from: number, x: Float32Array, found: Found) => void,
  threads?: number,
): Promise<void> {
  const length = Math.min(values.length, Math.max(1, Math.floor(chunk / columns)) * columns);
  await withKernels((kernels) => {
    const { areas, put, found } = reserve(kernels, length, part, importance);
    for (let from = 0; from < values.length; from += length) {
      const x = values.subarray(from, Math.min(from + length, values.length));
      put(x, spreads(search, x, columns, part, size));
      const items = Math.ceil(x.length / part / abreast);
      const [source, weights, of, ...targets] = areas;
      const where = [source, part, rules[search.weight], weights, columns, of, ...targets];
      kernels.run(kernelOf[search.kind], items, 3 * 16 * part, ...where, ...argumentsOf(search));
      use(from, x, found());
    }
  }, threads);
}

function reserve(kernels: Kernels, length: number, part: number, importance: Float32Array | undefined) {
  const parts = Math.ceil(length / part / abreast) * abreast;
  const x = kernels.reserve(4 * parts * part);
  const weights = kernels.reserve(importance?.byteLength ?? 0);
  const [of, scales, minima, totals] = Array.from({ length: 4 }, () => kernels.reserve(4 * parts));
  const codes = kernels.reserve(parts * part);
  if (importance) kernels.floats(weights).set(importance);
  return {
    areas: [x, weights, of, scales, minima, totals, codes].map((area) => area.at),
    put(values: Float32Array, spreads: Float32Array): void {
      // What lies past the end of the values is searched too, and not looked at.
      kernels.floats(x).set(values);
      kernels.floats(of).set(spreads);
    },
    found: (): Found => ({
      scales: kernels.floats(scales).slice(),
      minima: kernels.floats(minima).slice(),
      totals: kernels.floats(totals).slice(),
      codes: kernels.bytes(codes).slice(),
    }),
  };
}

/** Of every part, where the search asks for it. */
function spreads(search: Search, x: Float32Array, columns: number, part: number, size: number): Float32Array {
  const target = new Float32Array(x.length / part);
  if (search.weight !== 'importance and size' || !search.spread) return target;
  const length = search.spread.of === 'row' ? columns : size;
  for (let from = 0; from < x.length; from += length) {
    const spread = spreadOf(x.subarray(from, from + length), search);
    target.fill(spread, from / part, (from + length) / part);
  }
  return target;
}

function argumentsOf(search: Search): readonly number[] {
  if (search.kind === 'levels') return [];
  if (search.kind !== 'span') return [search.half];
  const { top, first, step, steps, absolute } = search;
  return [top, first, step, steps, Number(absolute)];
}
