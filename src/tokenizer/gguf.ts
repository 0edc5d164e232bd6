/**
 * A GGUF's vocabulary as the files of a Hugging Face tokenizer, so that one engine reads both. Byte-level vocabularies
 * ("gpt2") hold what tokenizer.json holds but for the way a text is cut; SentencePiece ones ("llama") hold scores,
 * which give the merges: of two neighbours that make a token, those with the best score are joined first.
 */

import { LapidaryError } from '../base/errors.ts';
import { preTokenizers } from './pre.ts';

/** What a GGUF says of its vocabulary: the values under "tokenizer.ggml.". */
export interface GgufVocabulary {
  /** "gpt2" or "llama". */
  readonly model: string;
  readonly pre?: string | undefined;
  readonly tokens: readonly string[];
  /** One each; absent, all are normal. */
  readonly types?: ArrayLike<number> | undefined;
  readonly scores?: ArrayLike<number> | undefined;
  /** "left right", first to last. */
  readonly merges?: readonly string[] | undefined;
  readonly bos?: number | undefined;
  readonly eos?: number | undefined;
  /** Ends a turn of a conversation, where that is another token. */
  readonly endOfTurn?: number | undefined;
  /** Ends a message that a tool is to answer; llama.cpp stops there, too. */
  readonly endOfMessage?: number | undefined;
  readonly unknown?: number | undefined;
  readonly padding?: number | undefined;
  readonly addBos?: boolean | undefined;
  readonly addSpacePrefix?: boolean | undefined;
  readonly chatTemplate?: string | undefined;
  /** Of other names than "default". */
  readonly namedTemplates?: ReadonlyMap<string, string> | undefined;
}

/** As GGUF numbers them. */
export const TokenType = { normal: 1, unknown: 2, control: 3, user: 4, unused: 5, byte: 6 } as const;

/**
 * tokenizer.json, tokenizer_config.json and generation_config.json, made when first read.
 * @throws LapidaryError on a kind of vocabulary that is not read here, and on ids and lists that do not fit
 */
export function tokenizerFiles(vocabulary: GgufVocabulary): ReadonlyMap<string, () => Uint8Array> {
  check(vocabulary);
  const files: [string, () => unknown][] = [
    ['tokenizer.json', () => definition(vocabulary)],
    ['tokenizer_config.json', () => configuration(vocabulary)],
    ['generation_config.json', () => generation(vocabulary)],
  ];
  return new Map(files.map(([name, make]) => [name, once(() => Buffer.from(JSON.stringify(make())))]));
}

function once<T>(make: () => T): () => T {
  let made: T | undefined;
  return () => (made ??= make());
}

function check({ model, pre, tokens, types, scores, merges, ...rest }: GgufVocabulary): void {
  const refuse = (what: string, expected: string, found: string | number): never => {
    throw new LapidaryError({ what, where: 'GGUF tokenizer', expected, found: `${found}` });
  };
  if (model !== 'gpt2' && model !== 'llama')
    refuse('a kind of vocabulary that is not read here', 'gpt2 or llama', model);
  if (model === 'gpt2') {
    if (!merges) refuse('a byte-level vocabulary without merges', 'tokenizer.ggml.merges', 'nothing');
    if (pre !== undefined && !preTokenizers.has(pre))
      refuse('a way of cutting text that is not known here', [...preTokenizers.keys()].join(', '), pre);
  } else if (!scores) refuse('a SentencePiece vocabulary without scores', 'tokenizer.ggml.scores', 'nothing');
  for (const [name, list] of Object.entries({ token_type: types, scores })) {
    if (list && list.length !== tokens.length)
      refuse(`"tokenizer.ggml.${name}" has another length than the tokens`, `${tokens.length}`, list.length);
  }
  const { bos, eos, endOfTurn, endOfMessage, unknown, padding } = rest;
  const special = { bos, eos, eot: endOfTurn, eom: endOfMessage, unknown, padding };
  for (const [name, id] of Object.entries(special)) {
    if (id !== undefined && !(Number.isSafeInteger(id) && id >= 0 && id < tokens.length))
      refuse(`the ${name} token is none of the tokens`, `an id below ${tokens.length}`, id);
  }
}

function definition(vocabulary: GgufVocabulary): Record<string, unknown> {
  const { tokens } = vocabulary;
  const bos = vocabulary.bos !== undefined && addsBos(vocabulary) ? tokens[vocabulary.bos] : undefined;
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: addedTokens(vocabulary),
    ...(vocabulary.model === 'gpt2' ? byteLevel(vocabulary) : sentencePiece(vocabulary)),
    post_processor: bos === undefined ? null : startingWith(bos, vocabulary.bos!),
  };
}

/** Control and user-defined tokens, which are looked for in the text before anything else. */
function addedTokens({ tokens, types }: GgufVocabulary): unknown[] {
  const found = tokens.map((content, id) => ({ id, content, type: types?.[id] ?? TokenType.normal }));
  return found
    .filter(({ content, type }) => content !== '' && [2, 3, 4].includes(type))
    .map(({ id, content, type }) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: type !== TokenType.user,
    }));
}

function vocab(tokens: readonly string[]): Record<string, number> {
  return Object.fromEntries(tokens.map((text, id) => [text, id]));
}

function byteLevel({ tokens, merges, pre }: GgufVocabulary) {
  const { patterns, ignoreMerges } = preTokenizers.get(pre ?? 'default')!;
  const splits = patterns.map((Regex) => ({
    type: 'Split',
    pattern: { Regex },
    behavior: 'Isolated',
    invert: false,
  }));
  const bytes = { add_prefix_space: false, trim_offsets: true, use_regex: false };
  return {
    normalizer: null,
    pre_tokenizer: { type: 'Sequence', pretokenizers: [...splits, { type: 'ByteLevel', ...bytes }] },
    decoder: { type: 'ByteLevel', ...bytes, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: ignoreMerges ?? false,
      vocab: vocab(tokens),
      // A space parts the two; neither holds one, since a space is written as another character.
      merges: merges!.map((merge) => merge.split(' ')).filter((pair) => pair.length === 2),
    },
  };
}

function sentencePiece(vocabulary: GgufVocabulary) {
  const { tokens, unknown } = vocabulary;
  const prefix = vocabulary.addSpacePrefix ?? true;
  return {
    normalizer: {
      type: 'Sequence',
      normalizers: [
        ...(prefix ? [{ type: 'Prepend', prepend: '▁' }] : []),
        { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
      ],
    },
    pre_tokenizer: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        ...(prefix ? [{ type: 'Strip', content: ' ', start: 1, stop: 0 }] : []),
      ],
    },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: unknown === undefined ? null : tokens[unknown],
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: true,
      byte_fallback: true,
      ignore_merges: false,
      vocab: vocab(tokens),
      merges: mergesOf(vocabulary),
    },
  };
}

/** Every way to make a token of two others, the best score first. */
function mergesOf({ tokens, types, scores }: GgufVocabulary): [string, string][] {
  const pieces = new Map<string, number>();
  tokens.forEach((text, id) => {
    const type = types?.[id] ?? TokenType.normal;
    if (type === TokenType.normal || type === TokenType.user || type === TokenType.unused)
      pieces.set(text, id);
  });
  const merges: { left: string; right: string; score: number; id: number }[] = [];
  for (const [text, id] of pieces) {
    // Longer ones are runs of spaces and the like, looked for whole; in a hostile file they would take forever.
    if (text.length > 256) continue;
    const characters = Array.from(text);
    for (let cut = 1; cut < characters.length; cut++) {
      const left = characters.slice(0, cut).join('');
      const right = text.slice(left.length);
      // A single character needs not be a token to be joined.
      const known = (part: string) => pieces.has(part) || Array.from(part).length === 1;
      if (known(left) && known(right)) merges.push({ left, right, score: scores![id], id });
    }
  }
  merges.sort((a, b) => b.score - a.score || a.id - b.id);
  return merges.map(({ left, right }) => [left, right]);
}

function startingWith(bos: string, id: number) {
  const token = { SpecialToken: { id: bos, type_id: 0 } };
  const sequence = (name: string) => ({ Sequence: { id: name, type_id: 0 } });
  return {
    type: 'TemplateProcessing',
    single: [token, sequence('A')],
    pair: [token, sequence('A'), sequence('B')],
    special_tokens: { [bos]: { id: bos, ids: [id], tokens: [bos] } },
  };
}

/** As llama.cpp does where the file does not say. */
function addsBos({ addBos, model, pre }: GgufVocabulary): boolean {
  return addBos ?? (model === 'llama' || (preTokenizers.get(pre ?? 'default')?.addBos ?? false));
}

function configuration(vocabulary: GgufVocabulary): Record<string, unknown> {
  const { tokens, chatTemplate } = vocabulary;
  const text = (id: number | undefined) => (id === undefined ? null : tokens[id]);
  const bos = addsBos(vocabulary);
  return {
    tokenizer_class: vocabulary.model === 'llama' ? 'LlamaTokenizer' : 'PreTrainedTokenizerFast',
    add_bos_token: bos,
    add_eos_token: false,
    // A model that never saw a text begin with BOS must not be measured with one.
    bos_token: bos || chatTemplate?.includes('bos_token') ? text(vocabulary.bos) : null,
    eos_token: text(vocabulary.eos),
    unk_token: text(vocabulary.unknown),
    pad_token: text(vocabulary.padding),
    clean_up_tokenization_spaces: false,
    ...templates(vocabulary),
  };
}

/** One as text, several as a list of them by name. */
function templates({ chatTemplate, namedTemplates = new Map() }: GgufVocabulary): Record<string, unknown> {
  const unnamed: [string, string][] = chatTemplate === undefined ? [] : [['default', chatTemplate]];
  const list = [...unnamed, ...namedTemplates].map(([name, template]) => ({ name, template }));
  if (list.length === 0) return {};
  return { chat_template: namedTemplates.size === 0 ? chatTemplate : list };
}

function generation({ bos, eos, endOfTurn, endOfMessage, padding }: GgufVocabulary): Record<string, unknown> {
  const ends = [...new Set([eos, endOfTurn, endOfMessage])].filter((id) => id !== undefined);
  return {
    ...(bos !== undefined && { bos_token_id: bos }),
    ...(ends.length > 0 && { eos_token_id: ends.length === 1 ? ends[0] : ends }),
    ...(padding !== undefined && { pad_token_id: padding }),
  };
}
