/**
 * Byte-level byte-pair encoding learned from text (Sennrich et al. 2016, with GPT-2's bytes and word pattern), because
 * pebble's tokenizer is made from scratch like its weights. Counts words once and then merges the most frequent pair
 * again and again; only the words that hold the pair are touched.
 */

/** GPT-2's pattern: contractions, words and numbers with the space before them, punctuation, white space. */
const words = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;

export interface BytePairs {
  /** Token texts by id, in the byte alphabet of `byteAlphabet`. */
  readonly tokens: readonly string[];
  readonly merges: readonly (readonly [string, string])[];
}

/** GPT-2's printable character for each byte: itself where it prints, otherwise the next one from U+0100. */
export function byteAlphabet(): string[] {
  const prints = (byte: number) =>
    (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 255 && byte !== 173);
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(prints(byte) ? byte : next++));
}

/**
 * @param special tokens that get the first ids and are never merged.
 * @param size the vocabulary in all: special tokens, 256 bytes, merges.
 */
export function learnBytePairs(text: string, special: readonly string[], size: number): BytePairs {
  const alphabet = byteAlphabet();
  const tokens = [...special, ...alphabet];
  const { sequences, counts } = countWords(text, special.length);
  const pairs = new PairIndex(sequences, counts);
  const merges: [string, string][] = [];
  while (tokens.length < size) {
    const best = pairs.mostFrequent();
    if (best === undefined) break;
    const [left, right] = best;
    merges.push([tokens[left], tokens[right]]);
    pairs.merge(left, right, tokens.length);
    tokens.push(tokens[left] + tokens[right]);
  }
  return { tokens, merges };
}

function countWords(text: string, firstByte: number): { sequences: number[][]; counts: number[] } {
  const occurrences = new Map<string, number>();
  for (const [word] of text.matchAll(words)) occurrences.set(word, (occurrences.get(word) ?? 0) + 1);
  const encoder = new TextEncoder();
  const sequences = [...occurrences.keys()].map((word) =>
    Array.from(encoder.encode(word), (b) => b + firstByte),
  );
  return { sequences, counts: [...occurrences.values()] };
}

/** Room for token ids in one half of a pair's key. */
const half = 1 << 20;

/** How often each pair of neighbours occurs, and in which words; kept right as pairs are merged. */
class PairIndex {
  readonly #sequences: number[][];
  readonly #counts: readonly number[];
  readonly #frequency = new Map<number, number>();
  readonly #holders = new Map<number, Set<number>>();

  constructor(sequences: number[][], counts: readonly number[]) {
    this.#sequences = sequences;
    this.#counts = counts;
    for (let word = 0; word < sequences.length; word++) this.#addWord(word, 1);
  }

  /** Ties go to the smaller left id, then to the smaller right one, so that the same text gives the same merges. */
  mostFrequent(): readonly [number, number] | undefined {
    let best = -1;
    let most = 1;
    for (const [pair, count] of this.#frequency) {
      if (count > most || (count === most && best >= 0 && pair < best)) {
        best = pair;
        most = count;
      }
    }
    return best < 0 ? undefined : [Math.floor(best / half), best % half];
  }

  merge(left: number, right: number, merged: number): void {
    // A copy: the loop changes who holds the pair.
    for (const word of Array.from(this.#holders.get(left * half + right) ?? [])) {
      this.#addWord(word, -1);
      this.#sequences[word] = replacePair(this.#sequences[word], left, right, merged);
      this.#addWord(word, 1);
    }
  }

  #addWord(word: number, sign: 1 | -1): void {
    const sequence = this.#sequences[word];
    for (let i = 0; i + 1 < sequence.length; i++) {
      const pair = sequence[i] * half + sequence[i + 1];
      const count = (this.#frequency.get(pair) ?? 0) + sign * this.#counts[word];
      if (count > 0) this.#frequency.set(pair, count);
      else this.#frequency.delete(pair);
      const holders = this.#holders.get(pair) ?? new Set();
      this.#holders.set(pair, holders);
      if (sign > 0) holders.add(word);
      else holders.delete(word);
    }
  }
}

function replacePair(sequence: readonly number[], left: number, right: number, merged: number): number[] {
  const result: number[] = [];
  for (let i = 0; i < sequence.length; i++) {
    if (sequence[i] === left && sequence[i + 1] === right) {
      result.push(merged);
      i++;
    } else result.push(sequence[i]);
  }
  return result;
}
