/**
 * Training rows out of tokenized stories. Every row starts with a story's BOS, as every text does when the model is
 * used, and is filled with whole stories, the last one cut; each pass over the text shuffles the stories anew, so
 * that other ones are cut.
 */

import { random } from '../../src/base/random.ts';

/** The stories in a stream of tokens, each from its BOS to its EOS. */
export function documentsOf(tokens: Uint16Array, bos: number): Uint16Array[] {
  const starts: number[] = [];
  for (let i = 0; i < tokens.length; i++) if (tokens[i] === bos) starts.push(i);
  return starts.map((start, i) => tokens.subarray(start, starts[i + 1] ?? tokens.length));
}

/** Rows of `length` tokens without end; the same seed gives the same rows. */
export function* rows(
  documents: readonly Uint16Array[],
  length: number,
  seed: number,
): Generator<Uint16Array> {
  for (let pass = 0; ; pass++) {
    const order = random(seed)
      .fork(`pass ${pass}`)
      .shuffle(Uint32Array.from(documents, (_, i) => i));
    let row = new Uint16Array(length);
    let filled = 0;
    for (const index of order) {
      const part = documents[index].subarray(0, length - filled);
      row.set(part, filled);
      filled += part.length;
      if (filled < length) continue;
      yield row;
      row = new Uint16Array(length);
      filled = 0;
    }
  }
}
