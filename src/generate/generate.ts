/** Text from a model: a prompt goes in at once, then token by token behind a cache of keys and values. */

import { LapidaryError } from '../base/errors.ts';
import type { Cache, FileRunner } from '../evaluate/file.ts';
import { openFile } from '../evaluate/file.ts';
import { exportGraph } from '../export/graph.ts';
import type { SessionOptions } from '../graph/session.ts';
import type { Model } from '../models/model.ts';
import type { SamplingOptions } from './sample.ts';
import { checkOption, sampler } from './sample.ts';
import { commonPrefix, firstOf } from './prefix.ts';
import type { ChatMessage } from '../tokenizer/chat.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { decodeStream } from '../tokenizer/tokenizer.ts';

export interface GenerateOptions extends SamplingOptions {
  /** New tokens at most; 128 where it is not given. */
  readonly maxTokens?: number | undefined;
  /** Takes a prompt in plain text as what a user says, by the model's chat template. */
  readonly chat?: boolean | undefined;
  /** Tokens that prompt and text have together at most; the model's context where it is not given. */
  readonly context?: number | undefined;
  /** Ends the text with what there is: no error, `finish` is "aborted". */
  readonly signal?: AbortSignal | undefined;
}

export interface Generation {
  /** Without the prompt. */
  readonly text: string;
  /** Token ids of the text, without the one that ended it. */
  readonly ids: readonly number[];
  readonly promptTokens: number;
  /** Of these, tokens whose keys and values were there from the conversation before: only the others were computed. */
  readonly cachedTokens: number;
  /** Why it ended: the model said so, `maxTokens`, the context is full, or the signal. */
  readonly finish: 'eos' | 'length' | 'context' | 'aborted';
  /** Computed tokens of the prompt a second, and tokens after the first new one a second; NaN where there were none. */
  readonly prefillTokensPerSecond: number;
  readonly decodeTokensPerSecond: number;
}

/** Text to go on from, or a conversation to answer, by the model's chat template. */
export type Prompt = string | readonly ChatMessage[];

/** What writes: a model in memory or the path of an exported ONNX file, with its tokenizer. */
export interface Writer {
  readonly source: Model | string;
  readonly tokenizer: Tokenizer;
  /** In tokens; of a model in memory its own where it is not given. */
  readonly context?: number | undefined;
}

/** A prompt that fits, and how to go on from it. */
export interface Request {
  readonly ids: Int32Array;
  readonly limit: number;
  /** Why it ends there. */
  readonly full: 'length' | 'context';
  readonly ends: ReadonlySet<number>;
  readonly pick: (logits: Float32Array) => number;
  readonly tokenizer: Tokenizer;
  readonly stopped: () => boolean;
}

/** What an engine has read last: token ids, and their keys and values. */
export interface Held {
  readonly ids: ArrayLike<number>;
  readonly cache: Cache;
}

export const engineOf = (source: Writer['source'], session: Pick<SessionOptions, 'device' | 'threads'>) =>
  openFile(typeof source === 'string' ? source : exportGraph(source), session);

/** Besides the caller's own signal. */
type Stops = readonly AbortSignal[];

/**
 * Checks all that can be wrong before an engine is opened.
 * @throws LapidaryError on options out of range, an empty prompt, one that fills the context, or a chat without a template
 */
export function requestOf(
  writer: Writer,
  prompt: Prompt,
  options: GenerateOptions,
  stops: Stops = [],
): Request {
  return requestFor(writer, encodePrompt(writer.tokenizer, prompt, options.chat ?? false), options, stops);
}

/** @param ids of the prompt, at least one */
function requestFor(
  { source, tokenizer, ...writer }: Writer,
  ids: Int32Array,
  options: GenerateOptions,
  stops: Stops = [],
): Request {
  const { maxTokens = 128, signal } = options;
  const fits = Number.isSafeInteger(maxTokens) && maxTokens >= 0;
  checkOption('max-tokens', maxTokens, fits, 'a whole number from 0');
  const model = typeof source === 'string' ? undefined : source;
  const context = options.context ?? writer.context ?? model?.config.context ?? Number.POSITIVE_INFINITY;
  if (ids.length >= context) {
    throw new LapidaryError({
      what: 'the prompt leaves no room in the context',
      expected: `fewer than ${context} tokens`,
      found: `${ids.length}`,
      fix: 'shorten the prompt',
    });
  }
  const room = context - ids.length;
  return {
    ids,
    limit: Math.min(maxTokens, room),
    full: room < maxTokens ? 'context' : 'length',
    ends: endsOf(tokenizer, model),
    pick: sampler(options),
    tokenizer,
    stopped: () => [signal, ...stops].some((each) => each?.aborted),
  };
}

/** One text, by an engine that is opened for it alone. @throws LapidaryError as `requestOf`, or on logits that are not finite */
export async function writeText(
  writer: Writer,
  prompt: Prompt,
  { device, threads, ...options }: GenerateOptions & Pick<SessionOptions, 'device' | 'threads'> = {},
  { tell, stops }: { readonly tell?: (text: string) => void; readonly stops?: Stops } = {},
): Promise<Generation> {
  const request = requestOf(writer, prompt, options, stops);
  const runner = await engineOf(writer.source, { device, threads });
  try {
    return (await answer(runner, request, undefined, tell)).generation;
  } finally {
    await runner.close();
  }
}

/**
 * To several prompts, one after the other, by an engine that is opened once.
 * @param prompts token ids, none empty
 * @throws LapidaryError as `writeText`
 */
export async function writeEach(
  writer: Writer,
  prompts: readonly Int32Array[],
  { device, threads, ...options }: GenerateOptions & Pick<SessionOptions, 'device' | 'threads'>,
): Promise<Generation[]> {
  const requests = prompts.map((ids) => requestFor(writer, ids, options));
  const runner = await engineOf(writer.source, { device, threads });
  try {
    const results: Generation[] = [];
    for (const request of requests) results.push((await answer(runner, request)).generation);
    return results;
  } finally {
    await runner.close();
  }
}

/** Tokens that end a text. */
export const endsOf = (tokenizer: Tokenizer, model: Model | undefined): ReadonlySet<number> =>
  new Set([...tokenizer.eos, ...(model?.config.eos ?? [])]);

/**
 * @param held what the engine has read before: the tokens that the prompt begins with are not computed again
 * @param tell told new text as soon as it is certain
 * @returns the text, and what the engine has read now
 */
export async function answer(
  runner: FileRunner,
  request: Request,
  held?: Held,
  tell: (text: string) => void = () => {},
): Promise<{ readonly generation: Generation; readonly held: Held }> {
  const { ids: prompt, tokenizer, full } = request;
  const stream = decodeStream(tokenizer, prompt);
  const { finish, cached, ids, ...rest } = await decode(runner, request, held, (id) => tell(stream.push(id)));
  tell(stream.end());
  const generation = {
    text: continuation(tokenizer, prompt, ids),
    ids,
    promptTokens: prompt.length,
    cachedTokens: cached,
    finish: finish ?? full,
    prefillTokensPerSecond: rest.prefill,
    decodeTokensPerSecond: rest.decode,
  };
  return { generation, held: rest.held };
}

async function decode(
  runner: FileRunner,
  { ids: prompt, limit, ends, pick, stopped }: Request,
  before: Held | undefined,
  onToken: (id: number) => void,
) {
  // The last token is computed in any case: its logits are wanted.
  const common = before ? Math.min(commonPrefix(before.ids, prompt), prompt.length - 1) : 0;
  const cached = runner.cuttable || common === before?.ids.length ? common : 0;
  const ids: number[] = [];
  let finish: 'eos' | 'aborted' | undefined;
  let cache =
    cached === 0 ? runner.empty() : runner.cuttable ? firstOf(before!.cache, cached) : before!.cache;
  let past = cached;
  let next = prompt.subarray(cached);
  const started = performance.now();
  let prefilled = started;
  while (ids.length < limit) {
    if (stopped()) {
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
  const computed = prompt.length - cached;
  return {
    ids,
    finish,
    cached,
    prefill: prefilled > started ? computed / ((prefilled - started) / 1000) : Number.NaN,
    decode: steps > 0 ? steps / seconds : Number.NaN,
    held: { ids: [...prompt, ...ids].slice(0, past), cache },
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
