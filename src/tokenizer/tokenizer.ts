/**
 * Text to token ids and back, thin over @huggingface/tokenizers (what transformers.js uses too), from the files that
 * travel with a checkpoint.
 */

import { LapidaryError } from '../base/errors.ts';
import { isObject, parseJsonObject, shortened } from '../base/json.ts';
import type { Chat } from './chat.ts';
import { chatTemplate } from './chat.ts';
import { openEngine } from './engine.ts';

export interface EncodeOptions {
  readonly bos?: boolean;
  readonly special?: boolean;
}

export interface Tokenizer {
  /**
   * Ids of a text, without special tokens of its own; `bos` puts the beginning-of-sequence token before it, where the
   * tokenizer has one; `special` adds what the tokenizer itself puts around a prompt, which may be the same or nothing.
   * Special tokens written out in the text ("</s>") are read as such; a text that begins with BOS, as chat templates
   * write it, gets no second one.
   */
  encode(text: string, options?: EncodeOptions): Int32Array;
  /** The same of several texts, where that takes less time than one after the other. */
  encodeAll?(texts: readonly string[], options?: EncodeOptions): readonly Int32Array[];
  /** Ids that no token has (a padded vocabulary) give no text. `skipSpecial` leaves out special tokens. */
  decode(ids: ArrayLike<number>, options?: { readonly skipSpecial?: boolean }): string;
  /** One more than the largest id. */
  readonly vocabularySize: number;
  /** Tokens from an id on; `added` ones stand beside the vocabulary that was trained. */
  tokensFrom(id: number): readonly { readonly text: string; readonly added: boolean }[];
  readonly bos?: number | undefined;
  /** Tokens that end a text, from tokenizer_config.json and generation_config.json. */
  readonly eos: readonly number[];
  /** A conversation as the text that the model was trained on; where there is a template. */
  readonly chat?: Chat | undefined;
}

/** Files by name, read when called, as a checkpoint hands them out. */
export type Files = ReadonlyMap<string, () => Uint8Array>;

/** @throws LapidaryError where tokenizer.json is missing, damaged or of a kind that the library does not know. */
export function loadTokenizer(files: Files): Tokenizer {
  const definition = readJson(files, 'tokenizer.json');
  if (!definition) {
    const others = [...files.keys()].filter((name) => /token|vocab|merges/.test(name));
    throw new LapidaryError({
      what: 'no tokenizer.json',
      where: 'tokenizer',
      expected: 'tokenizer.json beside the weights',
      found: others.length > 0 ? others.join(', ') : 'no tokenizer files',
      fix: 'make it once with transformers: AutoTokenizer.from_pretrained(folder).save_pretrained(folder)',
    });
  }
  const config = readJson(files, 'tokenizer_config.json');
  const engine = openEngine(files.get('tokenizer.json')!, config ?? {});
  const { ids } = engine;
  let largest = -1;
  for (const id of ids.values()) largest = Math.max(largest, id);
  const generation = readJson(files, 'generation_config.json');
  const special = { ...readJson(files, 'special_tokens_map.json'), ...config };
  const bosText = tokenText(special.bos_token);
  const eosText = tokenText(special.eos_token);
  // A tokenizer that says "no BOS" is believed; generation_config.json often names one all the same.
  const bos = 'bos_token' in special ? ids.get(bosText ?? '') : idsOf(generation?.bos_token_id)[0];
  const eos = [
    ...new Set([
      ...(eosText === undefined ? [] : idsOf(ids.get(eosText))),
      ...idsOf(generation?.eos_token_id),
    ]),
  ];
  const cleanUp = config?.clean_up_tokenization_spaces === true;
  const encodeAll = (texts: readonly string[], options: EncodeOptions = {}) => {
    const found = engine.encode(texts, options.special ?? false);
    return bos === undefined ? found : found.map((ids) => withBos(ids, bos, options));
  };
  return {
    vocabularySize: largest + 1,
    tokensFrom(first) {
      const added = new Set([definition.added_tokens ?? []].flat().map(tokenText));
      const found = [...ids].filter(([, id]) => id >= first);
      return found.map(([text]) => ({ text, added: added.has(text) }));
    },
    bos,
    eos,
    encode: (text, options) => encodeAll([text], options)[0]!,
    encodeAll,
    decode: (tokens, options = {}) =>
      engine.decode(Array.from(tokens), { skipSpecial: options.skipSpecial ?? false, cleanUp }),
    chat: chatTemplate(templateText(files, config), specialTokens(special)),
  };
}

/** A beginning where it is asked for, and none twice. */
function withBos(ids: Int32Array, bos: number, options: EncodeOptions): Int32Array {
  if (options.bos && ids[0] !== bos) {
    const all = new Int32Array(ids.length + 1);
    all[0] = bos;
    all.set(ids, 1);
    return all;
  }
  return options.special && ids[0] === bos && ids[1] === bos ? ids.slice(1) : ids;
}

/**
 * The tokenizer of a model that has rows for fewer tokens, as where tokens were added and never trained: text that holds
 * one of the others is refused.
 * @param vocabulary rows of the model's embedding
 * @param warn told in one line which tokens have none
 * @throws LapidaryError where they are more than what was added, so that it is another model's
 */
export function withinRows(
  tokenizer: Tokenizer,
  vocabulary: number,
  warn: (line: string) => void = () => {},
): Tokenizer {
  if (tokenizer.vocabularySize <= vocabulary) return tokenizer;
  const beyond = tokenizer.tokensFrom(vocabulary);
  if (beyond.some(({ added }) => !added)) {
    throw new LapidaryError({
      what: 'the tokenizer does not match the model',
      where: 'tokenizer.json',
      expected: `ids below ${vocabulary}, the rows of the model's embedding`,
      found: `ids up to ${tokenizer.vocabularySize - 1}`,
      fix: "use the tokenizer that came with this model's weights",
    });
  }
  const names = beyond.slice(0, 4).map(({ text }) => shortened(text, 40));
  const more = beyond.length > 4 ? ` and ${beyond.length - 4} more` : '';
  warn(
    `the tokenizer has tokens that the embedding has no rows for (${names.join(', ')}${more}): text that holds them is refused`,
  );
  const within = (ids: Int32Array): Int32Array => {
    const outside = ids.find((id) => id >= vocabulary);
    if (outside === undefined) return ids;
    throw new LapidaryError({
      what: `the text holds ${shortened(tokenizer.decode([outside]), 40)}, a token that the model has no row for`,
      where: 'tokenizer.json',
      expected: `ids below ${vocabulary}, the rows of the model's embedding`,
      found: `${outside}`,
      fix: 'take it out of the text',
    });
  };
  const { encodeAll } = tokenizer;
  return {
    ...tokenizer,
    encode: (text, options) => within(tokenizer.encode(text, options)),
    ...(encodeAll && { encodeAll: (texts, options) => encodeAll(texts, options).map(within) }),
  };
}

/** Characters of texts that are encoded at a time. */
const charactersAtOnce = 2 ** 18;

/** Each text with its ids, encoded a few at a time, for who may have enough before the last. */
export function* encodeEach(
  tokenizer: Pick<Tokenizer, 'encode' | 'encodeAll'>,
  texts: readonly string[],
  options?: EncodeOptions,
): Generator<Int32Array> {
  for (let next = 0; next < texts.length;) {
    const first = next;
    for (let characters = 0; next < texts.length && characters < charactersAtOnce; next++)
      characters += texts[next]!.length;
    const some = texts.slice(first, next);
    yield* tokenizer.encodeAll?.(some, options) ?? some.map((text) => tokenizer.encode(text, options));
  }
}

/**
 * Text of a growing sequence, piece by piece: a piece is held back while it ends inside a character.
 * @param context ids before the first one pushed, which decide whether it begins with a space
 */
export function decodeStream(tokenizer: Tokenizer, context: ArrayLike<number> = []) {
  // Pieces are differences of two decodings with a common beginning, since one token's text depends on its neighbours.
  const ids = Array.from(context).slice(-8);
  let from = 0;
  let told = ids.length;
  const decode = (end: number) => tokenizer.decode(ids.slice(from, end), { skipSpecial: true });

  function take(final: boolean): string {
    const before = decode(told);
    const now = decode(ids.length);
    if (now.length <= before.length || (now.endsWith('\uFFFD') && !final)) return '';
    from = told;
    told = ids.length;
    return now.slice(before.length);
  }

  return {
    /** The text that this token completes; often none, sometimes more than its own. */
    push(id: number): string {
      ids.push(id);
      return take(false);
    },
    /** What is still held back, a character cut short as U+FFFD. */
    end: (): string => take(true),
  };
}

export function readJson(files: Files, name: string): Record<string, unknown> | undefined {
  const read = files.get(name);
  if (!read) return undefined;
  return parseJsonObject(read(), { where: name, fix: 'fetch the file again' });
}

/** A token in tokenizer_config.json: its text, or an object that holds it. */
export function tokenText(token: unknown): string | undefined {
  const text = typeof token === 'object' && token !== null ? (token as { content?: unknown }).content : token;
  return typeof text === 'string' ? text : undefined;
}

/** What special tokens are called in settings and in chat templates. */
export const specialNames = ['bos', 'eos', 'unk', 'sep', 'pad', 'cls', 'mask'].map((name) => `${name}_token`);

/** Special tokens by their names, of those that there are. */
function specialTokens(config: Readonly<Record<string, unknown>>): Record<string, string> {
  const extra = isObject(config.extra_special_tokens) ? config.extra_special_tokens : {};
  const all = [...specialNames.map((name) => [name, config[name]] as const), ...Object.entries(extra)];
  return Object.fromEntries(
    all.flatMap(([name, token]) => {
      const text = tokenText(token);
      return text === undefined ? [] : [[name, text]];
    }),
  );
}

/** Token ids of settings that hold one, a list or null. */
export function idsOf(value: unknown): number[] {
  return [value].flat().filter((id): id is number => Number.isSafeInteger(id) && (id as number) >= 0);
}

/** Chat templates of other names than "default" stand here, "tool_use.jinja". */
const templatesFolder = 'additional_chat_templates';

/** By name, those beside the one that `templateText` gives: files where there are any, as transformers does, else of a list. */
export function namedTemplates(
  files: Files,
  config: Record<string, unknown> | undefined,
): ReadonlyMap<string, string> {
  const found = [...files].flatMap(([path, read]): [string, string][] => {
    const [folder, name] = path.split('/');
    return folder === templatesFolder && name?.endsWith('.jinja')
      ? [[name.slice(0, -'.jinja'.length), new TextDecoder().decode(read())]]
      : [];
  });
  if (found.length > 0 || files.has('chat_template.jinja')) return new Map(found);
  const list = readJson(files, 'chat_template.json')?.chat_template ?? config?.chat_template;
  if (!Array.isArray(list)) return new Map();
  return new Map(
    list.flatMap((entry): [string, string][] =>
      typeof entry?.name === 'string' && entry.name !== 'default' && typeof entry.template === 'string'
        ? [[entry.name, entry.template]]
        : [],
    ),
  );
}

/** chat_template.jinja first, as transformers does; a list of templates gives its "default". */
export function templateText(files: Files, config: Record<string, unknown> | undefined): string | undefined {
  const file = files.get('chat_template.jinja');
  if (file) return new TextDecoder().decode(file());
  const value = readJson(files, 'chat_template.json')?.chat_template ?? config?.chat_template;
  const named = Array.isArray(value)
    ? (value.find((entry) => entry?.name === 'default') ?? (value.length === 1 ? value[0] : undefined))
        ?.template
    : value;
  return typeof named === 'string' ? named : undefined;
}
