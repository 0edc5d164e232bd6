/**
 * Makes token sequences from documents: packed to one length for calibration, one for each document for evaluation.
 */

import { LapidaryError } from '../base/errors.ts';
import { random } from '../base/random.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { encodeEach } from '../tokenizer/tokenizer.ts';

/** The part of a tokenizer that is needed here. */
export type Codec = Pick<Tokenizer, 'encode' | 'encodeAll' | 'decode'>;

export interface PackOptions {
  /** Tokens in a sequence. */
  readonly length: number;
  /** How many sequences. */
  readonly count: number;
  readonly seed: number;
}

export interface Packed {
  /** All of one length. */
  readonly sequences: readonly Int32Array[];
  /** Said when there are fewer than asked, with both numbers. */
  readonly note?: string | undefined;
}

/**
 * Shuffles the documents by the seed, joins them as BOS + tokens, and cuts equal lengths; the rest is dropped.
 * @throws LapidaryError when the text is too short for one sequence
 */
export function packSequences(documents: readonly string[], tokenizer: Codec, options: PackOptions): Packed {
  const { length, count, seed } = options;
  const tokens: number[] = [];
  for (const ids of encodeEach(tokenizer, random(seed).shuffle([...documents]), { bos: true })) {
    for (const token of ids) tokens.push(token);
    if (tokens.length >= length * count) break;
  }
  const whole = Math.min(count, Math.floor(tokens.length / length));
  const sequences = Array.from({ length: whole }, (_, index) =>
    Int32Array.from(tokens.slice(index * length, (index + 1) * length)),
  );
  if (whole === 0) {
    throw new LapidaryError({
      what: 'the calibration text is too short',
      expected: `at least one sequence of ${length} tokens`,
      found: `${tokens.length} tokens in ${documents.length} documents`,
      fix: `give more text, or shorter sequences: --length ${Math.max(8, tokens.length)}`,
    });
  }
  if (whole === count) return { sequences };
  return {
    sequences,
    note: `the calibration text gives ${whole} of the ${count} sequences of ${length} tokens asked for`,
  };
}

/**
 * As llama-imatrix and llama-perplexity cut a text: documents in their order, joined as their tokens, in equal lengths, the
 * rest dropped. Where the tokenizer begins a text with BOS, documents do, and BOS stands in place of each chunk's first token.
 * @param count chunks at most, all without it
 * @throws LapidaryError when the text is too short for one
 */
export function chunksOf(
  documents: readonly string[],
  tokenizer: Codec & Pick<Tokenizer, 'bos'>,
  {
    length,
    count = Number.POSITIVE_INFINITY,
  }: { readonly length: number; readonly count?: number | undefined },
): readonly Int32Array[] {
  const { bos } = tokenizer;
  const begins = bos !== undefined && tokenizer.encode('', { special: true })[0] === bos;
  const chunks: Int32Array[] = [];
  let chunk = new Int32Array(length);
  let filled = 0;
  for (const document of documents)
    for (const token of tokenizer.encode(document, { bos: begins })) {
      if (chunks.length >= count) return chunks;
      chunk[filled++] = token;
      if (filled < length) continue;
      if (begins) chunk[0] = bos;
      chunks.push(chunk);
      [chunk, filled] = [new Int32Array(length), 0];
    }
  if (chunks.length > 0) return chunks;
  throw new LapidaryError({
    what: 'the text is too short',
    expected: `at least one chunk of ${length} tokens`,
    found: `${filled} tokens in ${documents.length} documents`,
    fix: 'give more text, or shorter chunks',
  });
}

/** What a model is evaluated on. */
export interface Documents {
  /** BOS + tokens each, cut at the length. */
  readonly sequences: readonly Int32Array[];
  /**
   * Characters (Unicode code points) that each sequence's predicted tokens stand for, a space that the tokenizer puts
   * before the text included: it is predicted too.
   */
  readonly characters: readonly number[];
}

/**
 * Every document as BOS + its tokens, cut at `length`; those with nothing to predict are left out. A single document is
 * cut into windows of `length`, each with a BOS of its own, so that it is predicted to its end (as llama-perplexity
 * does it): every token once.
 * @param options.documents most documents, or windows of a single one
 * @throws LapidaryError when none is left
 */
export function documentSequences(
  documents: readonly string[],
  tokenizer: Codec,
  options: { readonly length: number; readonly documents?: number | undefined },
): Documents {
  const sequences: Int32Array[] = [];
  const characters: number[] = [];
  const texts = documents.slice(0, options.documents).map((document) => document.trim());
  const cut =
    documents.length === 1
      ? windows(documents[0]!, tokenizer, options.length).slice(0, options.documents)
      : encodeEach(tokenizer, texts, { bos: true });
  for (const ids of cut) {
    const tokens = ids.slice(0, options.length);
    if (tokens.length < 2) continue;
    sequences.push(tokens);
    characters.push(predictedCharacters(tokens, tokenizer));
  }
  if (sequences.length === 0) {
    throw new LapidaryError({
      what: 'there is nothing to predict in the text',
      expected: 'a document of at least two tokens',
      found: `${documents.length} documents, none of them that long`,
    });
  }
  return { sequences, characters };
}

/** A text as BOS and the next tokens, again and again; the last may be shorter. */
function windows(document: string, tokenizer: Codec, length: number): Int32Array[] {
  const start = tokenizer.encode('', { bos: true });
  const tokens = tokenizer.encode(document.trim(), { bos: true }).subarray(start.length);
  const step = length - start.length;
  if (step < 1) return [];
  return Array.from({ length: Math.ceil(tokens.length / step) }, (_, index) =>
    Int32Array.of(...start, ...tokens.subarray(index * step, (index + 1) * step)),
  );
}

/**
 * Characters that a sequence's predicted tokens, all but the first, stand for; special tokens stand for none. They are
 * counted behind another token, because decoders drop a space at the beginning of a text.
 */
export function predictedCharacters(sequence: Int32Array, tokenizer: Codec): number {
  const [, ...predicted] = sequence;
  const count = (ids: ArrayLike<number>) => Array.from(tokenizer.decode(ids, { skipSpecial: true })).length;
  return count([predicted[0], ...predicted]) - count([predicted[0]]);
}
