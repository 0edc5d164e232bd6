/** Text from a model: a prompt goes in at once, then token by token behind a cache of keys and values. */

import { LapidaryError } from '../base/errors.ts';
import type { FileRunner } from '../evaluate/file.ts';
import { openFile } from '../evaluate/file.ts';
import { exportGraph } from '../export/graph.ts';
import type { SessionOptions } from '../graph/session.ts';
import type { Model } from '../models/model.ts';
import type { Opened } from '../open.ts';
import { openModel } from '../open.ts';
import type { SamplingOptions } from './sample.ts';
import { checkOption, sampler } from './sample.ts';
import type { ChatMessage } from '../tokenizer/chat.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { decodeStream } from '../tokenizer/tokenizer.ts';

export interface GenerateOptions extends SamplingOptions, Pick<SessionOptions, 'device' | 'threads'> {
  /** New tokens at most; 128 where it is not given. */
  readonly maxTokens?: number | undefined;
  /** Takes the prompt as what a user says, by the model's chat template. */
  readonly chat?: boolean | undefined;
  /** Tokens that prompt and text have together at most; the model's context, where that is known. */
  readonly context?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Told new text as soon as it is certain. */
  readonly onText?: ((text: string) => void) | undefined;
}

export interface Generation {
  /** Without the prompt. */
  readonly text: string;
  readonly ids: readonly number[];
  readonly promptTokens: number;
  /** Why it ended: the model said so, `maxTokens`, the context is full, or the signal. */
  readonly finish: 'eos' | 'length' | 'context' | 'aborted';
  /** Tokens of the prompt a second, and tokens after the first new one a second; NaN where there were none. */
  readonly prefillTokensPerSecond: number;
  readonly decodeTokensPerSecond: number;
}

/** Text to go on from, or a conversation to answer, by the model's chat template. */
export type Prompt = string | readonly ChatMessage[];

/**
 * @param source a model that `openModel` has opened, or what it would open: a folder, a hub id, a file
 * @throws LapidaryError on options out of range, a prompt that fills the context, or logits that are not finite
 */
export function generate(
  source: Opened | string,
  prompt: Prompt,
  options?: GenerateOptions,
): Promise<Generation>;
/** @param source a model in memory, or the path of an exported ONNX file */
export function generate(
  source: Model | string,
  tokenizer: Tokenizer,
  prompt: Prompt,
  options?: GenerateOptions,
): Promise<Generation>;
export async function generate(
  source: Opened | Model | string,
  second: Prompt | Tokenizer,
  third: Prompt | GenerateOptions = {},
  options: GenerateOptions = {},
): Promise<Generation> {
  if (isTokenizer(second)) return written(source as Model | string, second, third as Prompt, options);
  const opened = typeof source === 'string' ? await openModel(source) : (source as Opened);
  const own = { context: opened.context, ...(third as GenerateOptions) };
  return written(opened.model ?? opened.file, opened.tokenizer, second, own);
}

const isTokenizer = (value: Prompt | Tokenizer): value is Tokenizer =>
  typeof value === 'object' && 'encode' in value;

async function written(
  source: Model | string,
  tokenizer: Tokenizer,
  prompt: Prompt,
  options: GenerateOptions,
): Promise<Generation> {
  const { maxTokens = 128 } = options;
  checkOption(
    'max-tokens',
    maxTokens,
    Number.isSafeInteger(maxTokens) && maxTokens >= 0,
    'a whole number from 0',
  );
  const ids = encodePrompt(tokenizer, prompt, options.chat ?? false);
  const [result] = await generateEach(source, tokenizer, [ids], options);
  return result!;
}

/**
 * To several prompts, one after the other, by an engine that is opened once.
 * @param prompts token ids, none empty
 * @throws LapidaryError as `generate`
 */
export async function generateEach(
  source: Model | string,
  tokenizer: Tokenizer,
  prompts: readonly Int32Array[],
  options: GenerateOptions,
): Promise<Generation[]> {
  const { maxTokens = 128, signal, onText, device, threads } = options;
  const pick = sampler(options);
  const model = typeof source === 'string' ? undefined : source;
  const context = options.context ?? model?.config.context ?? Number.POSITIVE_INFINITY;
  const longest = Math.max(...prompts.map((ids) => ids.length));
  if (longest >= context) {
    throw new LapidaryError({
      what: 'the prompt leaves no room in the context',
      expected: `fewer than ${context} tokens`,
      found: `${longest}`,
      fix: 'shorten the prompt',
    });
  }
  const ends = endsOf(tokenizer, model);
  const runner = await openFile(model ? exportGraph(model) : (source as string), { device, threads });
  const results: Generation[] = [];
  try {
    for (const ids of prompts) {
      const limit = Math.min(maxTokens, context - ids.length);
      const stream = decodeStream(tokenizer, ids);
      const result = await decode(runner, ids, { limit, ends, pick, signal }, (id) =>
        onText?.(stream.push(id)),
      );
      onText?.(stream.end());
      const text = continuation(tokenizer, ids, result.ids);
      const finish = result.finish === 'length' && limit < maxTokens ? 'context' : result.finish;
      results.push({ ...result, text, finish, promptTokens: ids.length });
    }
    return results;
  } finally {
    await runner.close();
  }
}

/** Tokens that end a text. */
export const endsOf = (tokenizer: Tokenizer, model: Model | undefined): ReadonlySet<number> =>
  new Set([...tokenizer.eos, ...(model?.config.eos ?? [])]);

interface Decoding {
  readonly limit: number;
  readonly ends: ReadonlySet<number>;
  readonly pick: (logits: Float32Array) => number;
  readonly signal: AbortSignal | undefined;
}

async function decode(
  runner: FileRunner,
  prompt: Int32Array,
  { limit, ends, pick, signal }: Decoding,
  onToken: (id: number) => void,
) {
  const ids: number[] = [];
  let finish: Generation['finish'] = 'length';
  let cache = runner.empty();
  let next = prompt;
  const started = performance.now();
  let prefilled = started;
  for (let past = 0; ids.length < limit;) {
    if (signal?.aborted) {
      finish = 'aborted';
      break;
    }
    const step = await runner.step(next, past, cache, 1);
    cache = step.cache;
    past += next.length;
    if (past === prompt.length) prefilled = performance.now();
    const id = pick((step.logits.data as Float32Array).subarray(-runner.vocabulary));
    if (ends.has(id)) {
      finish = 'eos';
      break;
    }
    ids.push(id);
    onToken(id);
    next = Int32Array.of(id);
    // A running engine holds the event loop: let signals and streams through.
    await new Promise((resolve) => setImmediate(resolve));
  }
  const seconds = (performance.now() - prefilled) / 1000;
  const steps = finish === 'eos' ? ids.length : ids.length - 1;
  return {
    ids,
    finish,
    prefillTokensPerSecond: prefilled > started ? prompt.length / ((prefilled - started) / 1000) : Number.NaN,
    decodeTokensPerSecond: steps > 0 ? steps / seconds : Number.NaN,
  };
}

function encodePrompt(tokenizer: Tokenizer, prompt: Prompt, chat: boolean): Int32Array {
  const said = typeof prompt === 'string' ? (chat ? [{ role: 'user', content: prompt }] : undefined) : prompt;
  if (said && !tokenizer.chat) {
    throw new LapidaryError({
      what: 'this model has no chat template',
      where: 'tokenizer',
      fix: 'give the prompt as plain text',
    });
  }
  // A template writes the beginning of the sequence itself.
  const ids = said
    ? tokenizer.encode(tokenizer.chat!(said))
    : tokenizer.encode(prompt as string, { special: true });
  if (ids.length > 0) return ids;
  if (tokenizer.bos !== undefined) return Int32Array.of(tokenizer.bos);
  throw new LapidaryError({
    what: 'the prompt is empty, and this tokenizer has no token to begin with',
    fix: 'give a prompt',
  });
}

/** The text that the new tokens add to the prompt's: alone they could lose a space at their beginning. */
export function continuation(tokenizer: Tokenizer, prompt: Int32Array, ids: readonly number[]): string {
  const stream = decodeStream(tokenizer, prompt);
  return ids.map((id) => stream.push(id)).join('') + stream.end();
}
