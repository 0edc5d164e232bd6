/** Has llama.cpp itself continue prompts, greedily. */

import type { Llama } from './find.ts';
import type { LlamaOptions } from './process.ts';
import { askLlama } from './process.ts';

export interface Greedy {
  /** New tokens of each at most. */
  readonly tokens: number;
  /** Ids that end a text. */
  readonly ends: readonly number[];
}

/** @param prompts token ids, none empty; @returns the most likely ids behind each, one by one */
export function greedyLlama(
  { entry }: Llama,
  path: string,
  prompts: readonly ArrayLike<number>[],
  { threads, signal, ...greedy }: Greedy & LlamaOptions,
): Promise<readonly (readonly number[])[]> {
  const question = { path, prompts: prompts.map((ids) => Array.from(ids)), ...greedy };
  return askLlama(entry, 'greedy', question, { threads, signal });
}
