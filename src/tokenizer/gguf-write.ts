/**
 * The other way: the files of a Hugging Face tokenizer as the vocabulary that a GGUF holds. What llama.cpp has no way to
 * compute is refused, rather than written and computed differently.
 */

import { createHash } from 'node:crypto';
import { LapidaryError } from '../base/errors.ts';
import type { GgufVocabulary } from './gguf.ts';
import { TokenType } from './gguf.ts';
import type { PreTokenizer } from './pre.ts';
import { checkText, preHashes, preTokenizers } from './pre.ts';
import type { Files } from './tokenizer.ts';
import { loadTokenizer, namedTemplates, readJson, templateText, tokenText } from './tokenizer.ts';

interface Definition {
  readonly added_tokens?:
    readonly { readonly id: number; readonly content: string; readonly special?: boolean }[] | null;
  readonly normalizer?: Step | null;
  readonly pre_tokenizer?: Step | null;
  readonly post_processor?: { readonly single?: readonly { readonly SpecialToken?: unknown }[] } | null;
  readonly model: {
    readonly type?: string;
    readonly vocab: Readonly<Record<string, number>>;
    readonly merges: readonly (string | readonly [string, string])[];
    readonly unk_token?: string | null;
    readonly byte_fallback?: boolean;
    readonly ignore_merges?: boolean;
  };
}

interface Step {
  readonly type: string;
  readonly normalizers?: readonly Step[];
  readonly pretokenizers?: readonly Step[];
  readonly pattern?: { readonly Regex?: string; readonly String?: string };
  readonly content?: string;
  readonly individual_digits?: boolean;
  readonly use_regex?: boolean;
  readonly add_prefix_space?: boolean;
  readonly prepend_scheme?: string;
}

export interface SpecialIds {
  readonly bos?: number | undefined;
  readonly eos: readonly number[];
  readonly pad?: number | undefined;
}

/**
 * @param size rows of the model's embedding; ids that no token has are filled in, tokens that have no row left out
 * @param ids of the model, where the tokenizer's own files do not say; those that end a text, all
 * @throws LapidaryError on a tokenizer that llama.cpp does not compute, saying what it is
 */
export function vocabularyFromFiles(
  files: Files,
  size: number,
  ids: SpecialIds = { eos: [] },
): GgufVocabulary {
  const tokenizer = loadTokenizer(files);
  const definition = readJson(files, 'tokenizer.json') as unknown as Definition;
  const config = {
    ...readJson(files, 'special_tokens_map.json'),
    ...readJson(files, 'tokenizer_config.json'),
  };
  if (definition.model.type !== undefined && definition.model.type !== 'BPE')
    refuse('a kind of tokenizer that has no place in a GGUF here', 'BPE', definition.model.type);
  const idOf = (token: unknown) => {
    const text = tokenText(token);
    const added = definition.added_tokens?.find(({ content }) => content === text)?.id;
    const id = text === undefined ? undefined : (added ?? definition.model.vocab[text]);
    return id !== undefined && id < size ? id : undefined;
  };
  const merges = definition.model.merges.map((pair) => (typeof pair === 'string' ? pair : pair.join(' ')));
  const piecewise = definition.model.byte_fallback === true;
  const common = {
    ...tokensOf(definition, size, piecewise),
    bos: idOf(config.bos_token) ?? ids.bos,
    ...endsOf(idOf(config.eos_token), ids.eos),
    unknown: idOf(config.unk_token ?? definition.model.unk_token),
    padding: idOf(config.pad_token) ?? ids.pad,
    addBos: tokenizer.bos !== undefined && startsWithBos(definition, config, piecewise),
    chatTemplate: templateText(files, config),
    namedTemplates: namedTemplates(files, config),
  };
  if (!piecewise) return { model: 'gpt2', ...common, merges, pre: preOf(definition, tokenizer.encode) };
  return {
    model: 'llama',
    ...common,
    pre: 'default',
    scores: scoresOf(common.tokens, merges),
    addSpacePrefix: prefixesSpace(definition),
  };
}

function refuse(what: string, expected: string, found: unknown): never {
  throw new LapidaryError({
    what,
    where: 'tokenizer.json',
    expected,
    found: JSON.stringify(found),
    fix: 'write another format',
  });
}

/** As many as a GGUF has keys for. */
function endsOf(eos: number | undefined, all: readonly number[]) {
  const [first, endOfTurn, endOfMessage] = new Set([...(eos === undefined ? [] : [eos]), ...all]);
  return { eos: first, endOfTurn, endOfMessage };
}

function tokensOf({ model, added_tokens }: Definition, size: number, piecewise: boolean) {
  const tokens = Array.from({ length: size }, (_, id) => `[PAD${id}]`);
  const types = new Int32Array(size).fill(TokenType.unused);
  for (const [text, id] of Object.entries(model.vocab)) {
    if (id >= size) continue;
    tokens[id] = text;
    types[id] = piecewise && /^<0x[0-9A-F]{2}>$/.test(text) ? TokenType.byte : TokenType.normal;
  }
  for (const { id, content, special } of added_tokens ?? []) {
    if (id >= size) continue;
    tokens[id] = content;
    types[id] = special ? TokenType.control : TokenType.user;
  }
  const unknown = typeof model.unk_token === 'string' ? model.vocab[model.unk_token] : undefined;
  if (unknown !== undefined && unknown < size) types[unknown] = TokenType.unknown;
  return { tokens, types };
}

/** What is merged earlier scores higher; what no merge makes is a single character, whose score nothing asks for. */
function scoresOf(tokens: readonly string[], merges: readonly string[]): Float32Array {
  const ranks = new Map<string, number>();
  for (const [rank, merge] of merges.entries()) {
    const text = merge.replace(' ', '');
    if (!ranks.has(text)) ranks.set(text, rank);
  }
  return Float32Array.from(tokens, (text) => -(ranks.get(text) ?? merges.length));
}

function flat(step: Step | null | undefined): Step[] {
  if (!step) return [];
  const inner = step.normalizers ?? step.pretokenizers;
  return inner ? inner.flatMap(flat) : [step];
}

function prefixesSpace({ normalizer, pre_tokenizer }: Definition): boolean {
  const steps = [...flat(normalizer), ...flat(pre_tokenizer)];
  const unknown = steps.find(({ type }) => !['Prepend', 'Replace', 'Metaspace'].includes(type));
  if (unknown)
    refuse('a step that llama.cpp does not know in SentencePiece vocabularies', 'Prepend, Replace', unknown);
  return steps.some(
    ({ type, prepend_scheme }) => type === 'Prepend' || (type === 'Metaspace' && prepend_scheme !== 'never'),
  );
}

function startsWithBos(definition: Definition, config: Record<string, unknown>, piecewise: boolean): boolean {
  if (typeof config.add_bos_token === 'boolean') return config.add_bos_token;
  const template = definition.post_processor?.single;
  return template ? template[0]?.SpecialToken !== undefined : piecewise;
}

/** The name of the way a text is cut: known by what the tokenizer makes of a test text, or by its rules. */
function preOf(
  definition: Definition,
  encode: (text: string, options: { special: boolean }) => Int32Array,
): string {
  // As llama.cpp's conversion does it: the ids, written as Python writes a list.
  const ids = `[${Array.from(encode(checkText, { special: true })).join(', ')}]`;
  const known = preHashes.get(createHash('sha256').update(ids).digest('hex'));
  if (known !== undefined) return known;
  const patterns = flat(definition.pre_tokenizer).flatMap(patternOf);
  const ignoreMerges = definition.model.ignore_merges ?? false;
  const same = (pre: PreTokenizer) =>
    (pre.ignoreMerges ?? false) === ignoreMerges &&
    pre.patterns.length === patterns.length &&
    pre.patterns.every((pattern, i) => pattern === patterns[i]);
  for (const [name, pre] of preTokenizers) if (same(pre)) return name;
  return refuse(
    'a way of cutting text that llama.cpp has no name for',
    `rules as in ${[...preTokenizers.keys()].join(', ')}`,
    definition.pre_tokenizer,
  );
}

const gpt2Pattern = preTokenizers.get('gpt-2')!.patterns[0];

function patternOf(step: Step): string[] {
  if (step.add_prefix_space) refuse('a space before every text', 'add_prefix_space: false', step);
  switch (step.type) {
    case 'ByteLevel':
      return step.use_regex === false ? [] : [gpt2Pattern];
    case 'Digits':
      return [step.individual_digits ? '\\p{N}' : '\\p{N}+'];
    case 'Split':
      return [expanded(step.pattern?.Regex ?? '')];
    default:
      return refuse('a way of cutting text that llama.cpp does not know', 'ByteLevel, Digits, Split', step);
  }
}

/** (?i:...) as llama.cpp writes it, letter by letter. */
function expanded(pattern: string): string {
  return pattern.replace(/\(\?i:([^)]*)\)/g, (_, inner: string) => {
    const letters = inner.replace(/[a-z]/g, (letter) => `[${letter}${letter.toUpperCase()}]`);
    return `(?:${letters})`;
  });
}
