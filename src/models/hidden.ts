/**
 * The values of a text's tokens on their way through a model, batch by batch, where the engine writes them. All batches are views
 * of one array, which is written over when nobody needs it: pieces that come and go would leave memory full of holes.
 */

import { elementCount } from '../base/tensor.ts';
import { total } from '../base/total.ts';
import type { Feeds, Outputs, Tensor } from '../graph/session.ts';
import { tensor } from '../graph/session.ts';
import type { Stage } from './runner.ts';

/** Sequences of a batch, and tokens of each. */
export type Size = readonly [rows: number, time: number];

/**
 * An array with places for all batches of a value and for one more. The engine may write before it has read, so each batch
 * is written into the place before its own, which is free: nothing lies there yet, or the batch before it, which has moved.
 */
export interface Room {
  readonly array: Float32Array;
  /** Which place is free; the first batch lies behind it, the others follow in turn. */
  readonly free: number;
}

/** Takes a value's batches, in their order. */
export interface Store {
  /** As it will be when all of them are there. */
  readonly room: Room;
  /** The tensor to write a batch into. */
  place(index: number): Tensor;
}

/** Of the array that is room for so many numbers of each token. */
export const roomLength = (sizes: readonly Size[], shape: readonly number[]): number =>
  (sizes.length + 1) * Math.max(...sizes.map(elementCount)) * elementCount(shape);

/**
 * @param shape of a token's numbers
 * @param room one of the length that they take, whose batches are read as these are written; a new one without it
 */
export function storeOf(
  sizes: readonly Size[],
  shape: readonly number[],
  room: Room = { array: new Float32Array(roomLength(sizes, shape)), free: 0 },
): Store {
  const places = sizes.length + 1;
  const length = room.array.length / places;
  return {
    room: { array: room.array, free: (room.free + places - 1) % places },
    place(index) {
      const from = ((room.free + index) % places) * length;
      const dims = [...sizes[index], ...shape];
      return tensor('float32', dims, room.array.subarray(from, from + elementCount(dims)));
    },
  };
}

/** Where all batches of a value are: at the beginning of their buffer. */
export function roomOf(batches: readonly Tensor[]): Room {
  const { buffer, byteOffset } = batches[0].data as Float32Array;
  const array = new Float32Array(
    buffer as ArrayBuffer,
    0,
    roomLength(sizesOf(batches), batches[0].dims.slice(2)),
  );
  const places = batches.length + 1;
  const first = (places * byteOffset) / array.byteLength;
  return { array, free: (first + places - 1) % places };
}

/** The largest array that lies idle between values, so that the next need not be asked of the system; smaller ones go. */
export interface Spare {
  array?: Float32Array | undefined;
}

/** @returns room of the length in what was spare; nothing where that is too small, which then goes before a new one comes */
export function roomIn(spare: Spare, length: number): Room | undefined {
  const { array } = spare;
  spare.array = undefined;
  return array && array.length >= length ? { array: array.subarray(0, length), free: 0 } : undefined;
}

/** @param rooms that are of no more use */
export function leave(spare: Spare, rooms: readonly Room[]): void {
  for (const { array } of rooms) {
    const whole = new Float32Array(array.buffer);
    if (whole.length > (spare.array?.length ?? 0)) spare.array = whole;
  }
}

export const sizesOf = (batches: readonly Tensor[]): readonly Size[] =>
  batches.map(({ dims: [rows, time] }) => [rows, time] as const);

export const tokensOf = (sizes: readonly Size[]): number => total(sizes.map(elementCount));

/**
 * Hidden states [rows, time, width] of every batch of ids.
 * @param stage the embedding, which is released
 */
export async function embedded(
  stage: Stage,
  ids: readonly Tensor[],
  width: number,
  signal?: AbortSignal,
): Promise<Tensor[]> {
  const { place } = storeOf(sizesOf(ids), [width]);
  const hidden: Tensor[] = [];
  for (const [index, batch] of ids.entries()) {
    signal?.throwIfAborted();
    hidden.push(place(index));
    await stage.run({ ids: batch }, { hidden: hidden[index] });
  }
  await stage.release();
  return hidden;
}

/**
 * Replaces each batch by its next hidden states.
 * @param stage a block, which is released
 */
export async function forward(stage: Stage, hidden: Tensor[], signal?: AbortSignal): Promise<void> {
  const { place } = storeOf(sizesOf(hidden), hidden[0].dims.slice(2), roomOf(hidden));
  for (const [index, x] of hidden.entries()) {
    signal?.throwIfAborted();
    hidden[index] = place(index);
    await stage.run({ x }, { hidden: hidden[index] });
  }
  await stage.release();
}

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
