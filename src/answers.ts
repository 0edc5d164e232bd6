/** What the original and the compressed model answer to a few prompts: people look at this first, and losses do not show it. */

import { LapidaryError } from './base/errors.ts';
import { generateEach } from './generate.ts';
import type { GenerateOptions } from './generate.ts';
import type { Opened, OpenedCheckpoint } from './open.ts';
import type { Tokenizer } from './tokenizer/tokenizer.ts';

export interface Answers {
  readonly prompt: string;
  /** Greedy, without the prompt. */
  readonly original: string;
  readonly compressed: string;
}

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
 * one, else the beginnings of the evaluation text.
 * @param opened the written file, as its users run it
 */
export async function answersOf(
  original: OpenedCheckpoint,
  opened: Opened,
  evaluated: readonly Int32Array[],
  options: Pick<GenerateOptions, 'device' | 'threads' | 'signal'>,
): Promise<readonly Answers[]> {
  const { tokenizer, context } = original;
  const prompts = (asked(tokenizer) ?? beginnings(tokenizer, evaluated)).filter(
    ({ ids }) => ids.length > 0 && ids.length < context,
  );
  const all = { ...options, maxTokens: answerTokens, context };
  const ids = prompts.map((prompt) => prompt.ids);
  const before = await generateEach(original.model, tokenizer, ids, all);
  const after = await generateEach(opened.model ?? opened.file, tokenizer, ids, all);
  return prompts.map(({ text }, index) => ({
    prompt: text,
    original: before[index]!.text,
    compressed: after[index]!.text,
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
  return evaluated.slice(0, questions.length).map((sequence) => {
    const ids = sequence.slice(0, Math.min(promptTokens, sequence.length));
    return { text: decode(ids, { skipSpecial: true }), ids };
  });
}
