/** The least times that a file takes for a prompt of 64 tokens and for a token behind it, over as many runs as are asked for. */

import type { Cache, FileRunner } from '../../src/evaluate/file.ts';

export interface Times {
  /** Milliseconds of the prompt. */
  prompt: number;
  /** Milliseconds of a token behind it. */
  decode: number;
}

export const fresh = (): Times => ({ prompt: Number.POSITIVE_INFINITY, decode: Number.POSITIVE_INFINITY });

const [prompt, tokens] = [64, 4];

/** One more run. */
export async function leastTimes(runner: FileRunner, least: Times): Promise<void> {
  const ids = Int32Array.from({ length: prompt }, (_, i) => (i * 7919) % runner.vocabulary);
  const started = performance.now();
  let cache: Cache = (await runner.step(ids, 0, runner.empty(), 1)).cache;
  least.prompt = Math.min(least.prompt, performance.now() - started);
  for (let i = 0; i < tokens; i++) {
    const before = performance.now();
    cache = (await runner.step(Int32Array.of(i), prompt + i, cache, 1)).cache;
    least.decode = Math.min(least.decode, performance.now() - before);
  }
}

export const rounded = (value: number): number => Number(value.toPrecision(3));
