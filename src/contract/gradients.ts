/** How predictions hang on parts of a model: what is asked of a pass back through it, and what it gives. */

/** What of a model's gradients is wanted. */
export interface GradientsAsked {
  /** Linear layers in blocks, and blocks ("model.layers.0"), whose tokens' importance is wanted. */
  readonly names?: ReadonlySet<string> | undefined;
  /** Whether what blocks give is to be measured as predictions see it. */
  readonly metrics?: boolean | undefined;
  /** Linear layers in blocks, stored as floats, of whose weights each is to be measured so. */
  readonly weights?: ReadonlySet<string> | undefined;
  /** Linear layers in blocks by whose weights each the loss is to be differentiated: a pass of its own. */
  readonly slopes?: ReadonlySet<string> | undefined;
}

export interface Gradients {
  readonly importance: Importance;
  /**
   * Of each block: the mean of g g^T over tokens, row-major [hidden, hidden], g being the gradient of the predictions by a
   * token's hidden state behind the block.
   */
  readonly metrics: readonly Float32Array[] | undefined;
  /** By the matrix: E[g^2] of a token for each weight, row-major [out, in], the diagonal of the predictions' Fisher information. */
  readonly weights: ReadonlyMap<string, Float32Array>;
  /** By the matrix: the gradient of the mean of -log p(next token) over the text, row-major [out, in]. */
  readonly slopes: ReadonlyMap<string, Float32Array>;
}

/** By the name of a linear layer, or of a block. */
export type Importance = ReadonlyMap<string, TokenImportance>;

export interface TokenImportance {
  /** Of every token of the sequences, one after the other: 1 on average. */
  readonly weights: Float32Array;
  /**
   * Squared gradient of a token, on average. Changes e [out] of what the layer gives for each token raise the mean KL
   * divergence by about half of the mean of `mean` x weight x |e|^2 / out.
   */
  readonly mean: number;
}
