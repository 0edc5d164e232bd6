/**
 * Values of the calibration text's tokens, batch by batch. Those of all batches are views of one array, which is written
 * over when they are of no more use: pieces that come and go leave memory full of holes.
 */

import { total } from '../base/total.ts';
import type { Feeds, Outputs, Tensor } from '../graph/session.ts';
import { tensor } from '../graph/session.ts';
import type { Stage } from '../models/runner.ts';

/** Takes copies of a value's batches, in their places among all tokens. */
export interface Store {
  readonly array: Float32Array;
  /** @returns the copy */
  put(index: number, batch: Tensor): Tensor;
}

/** @param tokens of each batch */
export function storeOf(
  tokens: readonly number[],
  width: number,
  array: Float32Array = new Float32Array(width * total(tokens)),
): Store {
  const starts = tokens.map((_, index) => total(tokens.slice(0, index)));
  return {
    array,
    put(index, { data, dims }) {
      const from = starts[index] * width;
      const view = array.subarray(from, from + tokens[index] * width);
      view.set(data as Float32Array);
      return tensor('float32', dims, view);
    },
  };
}

/** The array that batches are views of. */
export const arrayOf = ([{ data }]: readonly Tensor[]): Float32Array =>
  new Float32Array((data as Float32Array).buffer);

/**
 * Runs a stage for batch after batch into the same outputs, valid until the next run.
 * @returns a run that gives the outputs named, and those that the caller has a place for, or null, written there
 */
export function runsOf(stage: Pick<Stage, 'run'>) {
  let [last, places]: [number, Record<string, Tensor>] = [0, {}];
  return async (
    feeds: Feeds,
    {
      tokens,
      names,
      others = {},
    }: { tokens: number; names: readonly string[]; others?: Outputs | undefined },
  ): Promise<Record<string, Tensor>> => {
    const own = names.map((name) => [name, (tokens === last && places[name]) || null] as const);
    const found = await stage.run(feeds, { ...Object.fromEntries(own), ...others });
    last = tokens;
    places = Object.fromEntries(names.map((name) => [name, found[name]]));
    return found;
  };
}
