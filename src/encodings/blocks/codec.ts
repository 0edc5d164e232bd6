/**
 * What a type of block is. A block holds the codes of weights that follow each other in a row and, in front of or
 * behind them, the parameters of its parts: in every type a weight is scale * levels[code] - minimum, with a scale and
 * a minimum for each part. Types differ in how they store those and in how their reference quantizers (ggml's
 * quantize_row_*_ref and quantize_*) choose them.
 */

import type { Found, Search } from './search.ts';

export interface BlockCodec {
  /** As GGUF and ggml name it: "Q4_K". */
  readonly name: string;
  /** Weights that share a scale and a minimum. */
  readonly part: number;
  /** What each code stands for before its scale: whole numbers, rising in steps of 1 where the type is evenly spaced. */
  readonly levels: Float32Array;
  /** Whether the type has minima; else they are 0. */
  readonly minima: boolean;
  /** Reads the scale and the minimum of each part. */
  parameters(block: Uint8Array, scales: Float32Array, minima: Float32Array): void;
  /**
   * Writes the scale and the minimum of each part, which are such as the type can hold: float16, or whole numbers times
   * the units of the block, which stay. Types whose levels are evenly spaced have it.
   */
  store?(block: Uint8Array, scales: Float32Array, minima: Float32Array): void;
  /** Of blocks whose scales and minima are whole numbers times units. */
  readonly numbers?: Numbers;
  unpack(block: Uint8Array, codes: Uint8Array): void;
  /** Writes codes into a block; its parameters stay. */
  pack(codes: Uint8Array, block: Uint8Array): void;
  /** What must be searched for in every part before a block can be encoded, with importance and without. */
  search?(weighted: boolean): Search | undefined;
  /** Quantizes the weights of a block, given what the search found in its parts. */
  encode(values: Float32Array, block: Uint8Array, found?: Found, weighted?: boolean): void;
}

export interface Numbers {
  /** Of scales; minima have numbers from 0 to `most`. */
  readonly least: number;
  readonly most: number;
  /** What is multiplied with the numbers of scales and of minima; 0 where there are none. */
  units(block: Uint8Array): readonly [scale: number, minimum: number];
}
