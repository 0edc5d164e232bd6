/** Batches of a block's inputs and of what it should make of them, for methods that train blocks. */

import type { Feeds, Tensor } from '../graph/session.ts';
import { tensor } from '../graph/session.ts';
import type { TrainedBlock } from '../contract/method.ts';

type Hidden = Pick<TrainedBlock, 'inputs' | 'targets' | 'importance'>;

/** One sequence's input and target, [time, hidden] each, and what its tokens weigh, [time]. */
export interface Sequence {
  readonly shape: readonly [time: number, hidden: number];
  readonly x: Float32Array;
  readonly target: Float32Array;
  readonly weights: Float32Array;
}

export function sequencesOf({ inputs, targets, importance }: Hidden): readonly Sequence[] {
  let first = 0;
  return inputs.flatMap((input, i) => {
    const [rows, time, hidden] = input.dims;
    const start = first;
    first += rows * time;
    const row = ({ data }: Tensor, at: number) =>
      (data as Float32Array).subarray(at * time * hidden, (at + 1) * time * hidden);
    return Array.from({ length: rows }, (_, at): Sequence => {
      const from = start + at * time;
      const weights = importance?.subarray(from, from + time) ?? new Float32Array(time).fill(1);
      return { shape: [time, hidden], x: row(input, at), target: row(targets[i], at), weights };
    });
  });
}

/** So many different numbers below `count`. */
export function drawn(count: number, size: number, integer: (below: number) => number): readonly number[] {
  const all = Array.from({ length: count }, (_, i) => i);
  for (let i = 0; i < size; i++) {
    const other = i + integer(count - i);
    [all[i], all[other]] = [all[other], all[i]];
  }
  return all.slice(0, size);
}

/**
 * One after the other: "x", "target" and "weights" of the block's graph.
 * @param share what all weights are multiplied by
 */
export function batchOf(sequences: readonly Sequence[], share: number): Feeds {
  const [time, hidden] = sequences[0].shape;
  const joined = (width: number, part: (sequence: Sequence) => Float32Array) => {
    const data = new Float32Array(sequences.length * time * width);
    for (const [i, sequence] of sequences.entries()) data.set(part(sequence), i * time * width);
    return tensor('float32', [sequences.length, time, width], data);
  };
  return {
    x: joined(hidden, ({ x }) => x),
    target: joined(hidden, ({ target }) => target),
    weights: joined(1, ({ weights }) => weights.map((weight) => share * weight)),
  };
}
