import { describe, expect, it } from 'vitest';
import type { Tensor } from '../graph/session.ts';
import { roomLength, roomOf, sizesOf, storeOf, tokensOf } from './hidden.ts';
import type { Size } from './hidden.ts';

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
