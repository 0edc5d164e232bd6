/**
 * What evaluation sees of a model, wherever it runs: logits in chunks small enough that a large vocabulary does not
 * fill memory. Every scorer cuts the same way, so that two of them pair.
 */

import type { SessionOptions, Tensor } from '../graph/session.ts';

/** Logits of consecutive positions of one sequence. */
export interface LogitChunk {
  /** Index of the sequence. */
  readonly sequence: number;
  /** First position; row r predicts the token at start + r + 1. */
  readonly start: number;
  readonly rows: number;
  /** float32 [rows, vocabulary]; valid until the next chunk is asked for */
  readonly logits: Tensor;
}

export interface Scorer {
  readonly vocabulary: number;
  /**
   * Logits of all positions that predict a token, sequence after sequence in the order given, cut by `cutsOf`.
   * @throws the signal's reason when it is aborted
   */
  score(sequences: readonly Int32Array[], signal?: AbortSignal): AsyncIterable<LogitChunk>;
  close(): Promise<void>;
}

/** Bytes of one chunk of logits. */
const chunkBytes = 32 * 2 ** 20;
const mostRows = 256;

/** Rows of a chunk, so that it stays within 32 MiB. */
export function rowsOf(vocabulary: number): number {
  return Math.max(1, Math.min(mostRows, Math.floor(chunkBytes / (4 * vocabulary))));
}

export interface ScorerOptions extends Pick<SessionOptions, 'device' | 'threads'> {
  /** Rows of a chunk; without it as many as fit in 32 MiB, 256 at most. Two scorers that are compared need the same. */
  readonly rows?: number | undefined;
}

export interface Cut {
  readonly start: number;
  readonly rows: number;
}

/** Chunks of a sequence's predicting positions, all but its last, of about one size: a single row takes as long as many. */
export function cutsOf(length: number, rows: number): readonly Cut[] {
  const positions = length - 1;
  const even = Math.ceil(positions / Math.ceil(positions / rows));
  const cuts: Cut[] = [];
  for (let start = 0; start < positions; start += even)
    cuts.push({ start, rows: Math.min(even, positions - start) });
  return cuts;
}
