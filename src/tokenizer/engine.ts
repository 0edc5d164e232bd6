/** Asks the libraries of tokenizers and templates, which run where they can be ended (library.js). */

import { LapidaryError } from '../base/errors.ts';
import type { Kept } from '../base/guard/guard.ts';
import { guarded, LibraryFailure } from '../base/guard/guard.ts';

const library = guarded(new URL('./library.js', import.meta.url), 'the tokenizer or chat template');

/** A tokenizer as its library knows it: ids of text without anything around it. */
export interface Engine {
  /** Ids of all tokens, those added besides among them. */
  readonly ids: ReadonlyMap<string, number>;
  /** @param special adds what the tokenizer itself puts around a prompt */
  encode(texts: readonly string[], special: boolean): readonly Int32Array[];
  decode(
    ids: readonly number[],
    options: { readonly skipSpecial: boolean; readonly cleanUp: boolean },
  ): string;
}

const file = 'tokenizer.json';

/**
 * @param definition reads tokenizer.json, again where the library was ended meanwhile
 * @throws LapidaryError where the library refuses the files, or a text that it is given later
 */
export function openEngine(definition: () => Uint8Array, config: object): Engine {
  const question = () => {
    const bytes = definition();
    return { job: 'tokenizer', value: { definition: bytes, config }, where: file, bytes: bytes.length };
  };
  const { answer, kept } = orRefused('a tokenizer that cannot be read', () =>
    library.keep<{ readonly tokens: string; readonly ids: Float64Array }>(question(), question),
  );
  const tokens: readonly string[] = JSON.parse(answer.tokens);
  const ask = <T>(job: string, value: object, bytes: number): T =>
    orRefused('a tokenizer that fails at its work', () => kept.ask<T>({ job, value, where: file, bytes }));
  return {
    ids: new Map(tokens.map((token, index) => [token, answer.ids[index]!])),
    encode: (texts, special) =>
      ask(
        'encode',
        { texts, special },
        texts.reduce((sum, text) => sum + text.length, 0),
      ),
    decode: (ids, options) => ask('decode', { ids, ...options }, 4 * ids.length),
  };
}

function orRefused<T>(what: string, ask: () => T): T {
  try {
    return ask();
  } catch (cause) {
    if (!(cause instanceof LibraryFailure)) throw cause;
    throw new LapidaryError({
      what,
      where: file,
      expected: 'what the Hugging Face tokenizers library writes',
      found: cause.message,
      fix: 'fetch the file again, or write it with a current version of transformers',
      cause,
    });
  }
}

/**
 * A Jinja template as a function of the names that it uses; parsed at the first call.
 * @throws LibraryFailure in the function, where the template does not parse or refuses, LapidaryError where it takes too long
 */
export function openTemplate(source: string, where: string): (names: object) => string {
  let kept: Kept | undefined;
  return (names) => {
    kept ??= library.keep({ job: 'template', value: { source }, where }).kept;
    return kept.ask({ job: 'render', value: names, where });
  };
}
