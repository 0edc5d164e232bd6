/**
 * Seeded random numbers: the same seed gives the same sequence on every machine. The generator is
 * xoroshiro128+ (Blackman and Vigna, 2018) from pure-rand, its state spread from the seed by splitmix32.
 */

import { uniformFloat64 } from 'pure-rand/distribution/uniformFloat64';
import { uniformInt } from 'pure-rand/distribution/uniformInt';
import { xoroshiro128plusFromState } from 'pure-rand/generator/xoroshiro128plus';

export interface Random {
  /** In [0, 1), a multiple of 2^-53. */
  uniform(): number;
  /** Mean 0, variance 1. */
  normal(): number;
  /** A whole number in [0, below); `below` at least 1. */
  integer(below: number): number;
  /** Shuffles in place and returns the same array. */
  shuffle<T extends unknown[] | Int32Array | Uint32Array | Float32Array>(array: T): T;
  /**
   * Another sequence, which depends on this one's seed and the label alone, not on how many numbers were drawn;
   * so that adding a consumer does not change what the others see.
   */
  fork(label: string): Random;
}

/** @param seed a whole number; only its lower 53 bits count. */
export function random(seed: number): Random {
  if (!Number.isSafeInteger(seed)) throw new RangeError(`a seed must be a whole number, got ${seed}`);
  return fromWords(seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0);
}

function fromWords(low: number, high: number): Random {
  const spread = splitmix32(low ^ Math.imul(high, 0x9e3779b1));
  const generator = xoroshiro128plusFromState([spread(), spread() ^ high, spread(), spread() | 1]);
  const uniform = () => uniformFloat64(generator);
  let spare: number | undefined;

  /** Marsaglia's polar method: two at a time, one kept. */
  function normal(): number {
    if (spare !== undefined) {
      const value = spare;
      spare = undefined;
      return value;
    }
    for (;;) {
      const u = 2 * uniform() - 1;
      const v = 2 * uniform() - 1;
      const square = u * u + v * v;
      if (square >= 1 || square === 0) continue;
      const factor = Math.sqrt((-2 * Math.log(square)) / square);
      spare = v * factor;
      return u * factor;
    }
  }

  function integer(below: number): number {
    if (!Number.isSafeInteger(below) || below < 1)
      throw new RangeError(`integer(below) needs at least 1, got ${below}`);
    return uniformInt(generator, 0, below - 1);
  }

  return {
    uniform,
    normal,
    integer,
    shuffle(array) {
      for (let last = array.length - 1; last > 0; last--) {
        const other = integer(last + 1);
        [array[last], array[other]] = [array[other], array[last]];
      }
      return array;
    },
    fork(label) {
      return fromWords(hash32(label, low ^ 0x5bd1e995), hash32(label, high ^ 0x1b873593));
    },
  };
}

/** Steele, Lea and Flood's SplitMix in 32 bits: one good word after another from one seed. */
function splitmix32(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x9e3779b9) | 0;
    let word = state ^ (state >>> 16);
    word = Math.imul(word, 0x21f0aaad);
    word ^= word >>> 15;
    word = Math.imul(word, 0x735a2d97);
    return word ^ (word >>> 15);
  };
}

/** FNV-1a over UTF-16 units, started from `seed`. */
function hash32(text: string, seed: number): number {
  let hash = 0x811c9dc5 ^ seed;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}
