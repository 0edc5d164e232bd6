import { describe, expect, it } from 'vitest';
import type { Tensor } from '../graph/session.ts';
import { leave, roomIn, roomLength, roomOf, sizesOf, storeOf, tokensOf } from './hidden.ts';
import type { Room, Size, Spare } from './hidden.ts';

const sizes: readonly Size[] = [
  [2, 4],
  [2, 4],
  [2, 4],
  [1, 4],
];
const shape = [3];
const valuesOf = ({ data }: Tensor): Float32Array => data as Float32Array;

describe('a room for batches', () => {
  it('gives each a place, with the shape of its tokens', () => {
    const { place } = storeOf(sizes, shape);
    const batches = sizes.map((_, index) => place(index));
    expect(batches.map(({ dims }) => dims)).toEqual(sizes.map((size) => [...size, 3]));
    expect(sizesOf(batches)).toEqual(sizes);
    expect(tokensOf(sizes)).toBe(28);
  });

  it('is read while it is written again, batch by batch, as often as there are blocks', () => {
    let store = storeOf(sizes, shape);
    const batches = sizes.map((_, index) => {
      const batch = store.place(index);
      valuesOf(batch).fill(index);
      return batch;
    });
    for (let block = 1; block < 12; block++) {
      const room = roomOf(batches);
      expect(room.free).toBe(store.room.free);
      expect(room.array.buffer).toBe(store.room.array.buffer);
      store = storeOf(sizes, shape, room);
      for (const [index, before] of batches.entries()) {
        const next = store.place(index);
        // As an engine may that writes all before it has read.
        valuesOf(next).fill(Number.NaN);
        expect([...new Set(valuesOf(before))]).toEqual([10 * (block - 1) + index]);
        valuesOf(next).fill(10 * block + index);
        batches[index] = next;
      }
    }
  });

  it('takes one batch more than there are', () => {
    const { room } = storeOf(sizes, shape);
    expect(room.array).toHaveLength(5 * 8 * 3);
    expect(roomLength(sizes, shape)).toBe(room.array.length);
  });
});

describe('what lies idle', () => {
  const roomOfLength = (length: number): Room => ({ array: new Float32Array(length), free: 0 });

  it('is used again whole, once, for what is no larger', () => {
    const spare: Spare = {};
    leave(spare, [roomOfLength(40), roomOfLength(100)]);
    const { array } = spare;
    expect(array).toHaveLength(100);
    const part = roomIn(spare, 40)!;
    expect([part.array.length, part.array.buffer]).toEqual([40, array!.buffer]);
    expect(roomIn(spare, 40)).toBeUndefined();
    // A part is left as the whole that it is of.
    leave(spare, [part]);
    expect(roomIn(spare, 100)!.array).toEqual(array);
  });

  it('is let go before something larger comes', () => {
    const spare: Spare = {};
    leave(spare, [roomOfLength(40)]);
    expect(roomIn(spare, 41)).toBeUndefined();
    expect(spare.array).toBeUndefined();
  });

  it('may hold batches that are found again', () => {
    const spare: Spare = {};
    leave(spare, [roomOfLength(10 * roomLength(sizes, shape))]);
    const store = storeOf(sizes, shape, roomIn(spare, roomLength(sizes, shape)));
    const room = roomOf(sizes.map((_, index) => store.place(index)));
    expect([room.free, room.array.length]).toEqual([store.room.free, roomLength(sizes, shape)]);
  });
});
