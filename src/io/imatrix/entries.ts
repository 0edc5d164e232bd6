/** What an importance matrix holds, in whichever form. */

/** Of one weight; of experts that lie in one tensor, of each. */
export interface ImatrixEntry {
  /** Sums of the squared inputs, row-major [experts, columns]; without experts there is one row. */
  readonly sums: Float32Array;
  /** What each row is a sum of, [experts]: tokens, or in the older form chunks, whose sums are of means; 0 for nothing. */
  readonly counts: Float32Array;
}

export interface Imatrix {
  /** By the weight's name in GGUF: "blk.0.attn_q.weight". */
  readonly entries: ReadonlyMap<string, ImatrixEntry>;
  /** The texts that it was made from, as its maker named them. */
  readonly datasets: readonly string[];
  /** Pieces of text that were run; undefined where the file does not say. */
  readonly chunks?: number | undefined;
  /** Tokens of each; the older form does not say. */
  readonly chunkSize?: number | undefined;
}

/** With all that llama-imatrix says of it; counts are of tokens. */
export interface WritableImatrix extends Imatrix {
  readonly chunks: number;
  readonly chunkSize: number;
}
