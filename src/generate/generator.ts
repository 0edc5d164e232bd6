/** The library's ways to text: one prompt by its model's name, or a model that is kept open for many. */

import { ExitCode, LapidaryError } from '../base/errors.ts';
import type { SessionOptions } from '../graph/session.ts';
import type { OpenOptions, Opened } from '../open.ts';
import { openModel } from '../open.ts';
import type { GenerateOptions, Generation, Held, Prompt, Writer } from './generate.ts';
import { answer, engineOf, requestOf, writeText } from './generate.ts';
import type { Generating } from './generating.ts';
import { generating } from './generating.ts';

/** What runs a model, and how its name is looked up. */
export interface GeneratorOptions extends Pick<SessionOptions, 'device' | 'threads'>, OpenOptions {}

/** A model that is kept open. One text at a time: later ones wait for those before. */
export interface TextGenerator {
  /** Longest sequence, in tokens. */
  readonly context: number;
  /**
   * Text behind a prompt, or the answer to a conversation. What a prompt has in common with the one before and its answer, from
   * the beginning, is not computed again (`cachedTokens`): so a conversation costs what is new in it.
   * @throws LapidaryError (awaited or iterated) on options out of range, an empty prompt or one that fills the context, a
   *   conversation where the model has no chat template, logits that are not finite, or a generator that was closed
   */
  generate(prompt: Prompt, options?: GenerateOptions): Generating<Generation>;
  /** Stops what is being written, and lets the engine and its memory go. */
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Text from a model, which is opened for this alone: `openGenerator` keeps it open for more.
 *
 * ```ts
 * for await (const text of generate('./small', 'Once upon a time')) process.stdout.write(text);
 * const { text, finish } = await generate('./small', [{ role: 'user', content: 'Who are you?' }]);
 * ```
 *
 * @param source a folder, a hub id, a .gguf or .onnx file, or what `openModel` has opened
 * @returns pieces of text by `for await`, the whole by `await`; nothing is computed before one of them
 * @throws LapidaryError (awaited or iterated) as `openModel` and `TextGenerator.generate`
 */
export function generate(
  source: Opened | string,
  prompt: Prompt,
  { device, threads, revision, progress, warn, ...options }: GenerateOptions & GeneratorOptions = {},
): Generating<Generation> {
  return generating(async (tell, stopped) => {
    const writer = writerOf(await opened(source, { revision, progress, warn }));
    return writeText(writer, prompt, { ...options, device, threads }, { tell, stops: [stopped] });
  });
}

/**
 * Opens a model to write with, and keeps it open until `close` (or `await using`).
 * @param source as of `generate`
 * @throws LapidaryError on a model that cannot be opened, or that the engine refuses
 */
export async function openGenerator(
  source: Opened | string,
  { device, threads, ...options }: GeneratorOptions = {},
): Promise<TextGenerator> {
  const model = await opened(source, options);
  const writer = writerOf(model);
  const runner = await engineOf(writer.source, { device, threads });
  const closed = new AbortController();
  let held: Held | undefined;
  let last: Promise<unknown> = Promise.resolve();
  const write = async (
    prompt: Prompt,
    own: GenerateOptions,
    stopped: AbortSignal,
    tell: (text: string) => void,
  ) => {
    if (closed.signal.aborted) throw new LapidaryError({ what: 'this generator was closed' }, ExitCode.usage);
    const request = requestOf(writer, prompt, own, [stopped, closed.signal]);
    const result = await answer(runner, request, held, tell);
    held = result.held;
    return result.generation;
  };
  let closing: Promise<void> | undefined;
  const close = (): Promise<void> => {
    closed.abort();
    return (closing ??= last.then(() => {
      held = undefined;
      return runner.close();
    }));
  };
  return {
    context: model.context,
    generate: (prompt, own = {}) =>
      generating((tell, stopped) => {
        const text = last.then(() => write(prompt, own, stopped, tell));
        last = text.catch(() => {});
        return text;
      }),
    close,
    [Symbol.asyncDispose]: close,
  };
}

const opened = async (source: Opened | string, options: OpenOptions): Promise<Opened> =>
  typeof source === 'string' ? openModel(source, options) : source;

const writerOf = ({ model, file, tokenizer, context }: Opened): Writer => ({
  source: model ?? file,
  tokenizer,
  context,
});
