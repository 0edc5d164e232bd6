/** What the original and the compressed model answer to a few prompts: people look at this first, and losses do not show it. */

import { LapidaryError } from '../base/errors.ts';
import type { Greedy, Written } from '../formats/format.ts';
import { continuation, endsOf, writeEach } from './generate.ts';
import type { GenerateOptions } from './generate.ts';
import type { SessionOptions } from '../graph/session.ts';
import type { Model } from '../models/model.ts';
import { parameters } from '../models/size.ts';
import type { OpenedCheckpoint } from '../open.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';

export interface Answers {
  readonly prompt: string;
  /** Greedy, without the prompt. */
  readonly original: string;
  readonly compressed: string;
  /** What ran both: "llama.cpp v0.5.0 (node-llama-cpp 3.22.1)". */
  readonly engine: string;
}

/** Bytes in float32 of a model that an engine may hold whole though speed is not measured. */
const smallModel = 2 ** 28;

/** Whether both are asked where nobody says so: unless speed is not measured and the original is large. */
export const asksPrompts = (
  { speed = true, answers }: { readonly speed?: boolean | undefined; readonly answers?: boolean | undefined },
  original: Model,
): boolean => answers ?? (speed || 4 * parameters(original) < smallModel);

/** Of models that answer. */
const questions = [
  'What is the capital of France?',
  'Write one sentence about the sea.',
  'What is 7 times 6?',
];
const promptTokens = 12;
const answerTokens = 40;

/**
 * Both answer greedily, at most 40 tokens each, to the same three prompts: questions by the chat template where there is
 * one, else beginnings of the evaluation text that differ.
 * @param file where it is; @param written as its users run it: by an engine of its own, where that is there
 */
export async function answersOf(
  original: OpenedCheckpoint,
  file: string,
  { opened, checks, race }: Pick<Written, 'opened' | 'checks' | 'race'>,
  evaluated: readonly Int32Array[],
  options: Pick<SessionOptions, 'device' | 'threads'> & Pick<GenerateOptions, 'signal'>,
): Promise<readonly Answers[]> {
  const { tokenizer, context } = original;
  const prompts = (asked(tokenizer) ?? beginnings(tokenizer, evaluated)).filter(
    ({ ids }) => ids.length > 0 && ids.length < context,
  );
  const ids = prompts.map((prompt) => prompt.ids);
  const own = async (source: Model | string) => {
    const all = { ...options, maxTokens: answerTokens };
    return (await writeEach({ source, tokenizer, context }, ids, all)).map(({ text }) => text);
  };
  const engines = async (greedy: Greedy, path: string) => {
    const ends = [...endsOf(tokenizer, original.model)];
    const found = await greedy(path, ids, { ...options, tokens: answerTokens, ends });
    return found.map((next, index) => continuation(tokenizer, ids[index]!, next));
  };
  // A file that is there takes less memory than the same graph put together once more.
  const plain = async () => (race ? await race.writeOriginal() : original.model);
  const [engine, before, after] = race?.greedy
    ? [race.engine, await engines(race.greedy, await race.writeOriginal()), await engines(race.greedy, file)]
    : [checks[0]!.engine, await own(await plain()), await own(opened.model ?? opened.file)];
  return prompts.map(({ text }, index) => ({
    prompt: text,
    original: before[index]!,
    compressed: after[index]!,
    engine,
  }));
}

interface Prompt {
  readonly text: string;
  readonly ids: Int32Array;
}

/** Undefined where there is no template, or one that takes no lone question. */
function asked({ chat, encode }: Tokenizer): Prompt[] | undefined {
  if (!chat) return undefined;
  try {
    return questions.map((text) => ({ text, ids: encode(chat([{ role: 'user', content: text }])) }));
  } catch (error) {
    if (error instanceof LapidaryError) return undefined;
    throw error;
  }
}

function beginnings({ encode, decode }: Tokenizer, evaluated: readonly Int32Array[]): Prompt[] {
  if (evaluated.length === 0) {
    const text = 'Once upon a time';
    return [{ text, ids: encode(text, { special: true }) }];
  }
  // Texts may begin alike; asking the same twice shows nothing.
  const found = new Map<string, Prompt>();
  for (const sequence of evaluated) {
    const ids = sequence.slice(0, Math.min(promptTokens, sequence.length));
    const text = decode(ids, { skipSpecial: true });
    if (!found.has(text)) found.set(text, { text, ids });
    if (found.size === questions.length) break;
  }
  return [...found.values()];
}
