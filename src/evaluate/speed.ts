/** How fast an exported ONNX file runs here: prompt and generated tokens a second. */

import type { SessionOptions } from '../graph/session.ts';
import { median } from './bootstrap.ts';
import type { Cache, FileRunner } from './file.ts';
import { openFile } from './file.ts';

export interface Speed {
  /** Tokens of a prompt read in one run, a second. */
  readonly prefillTokensPerSecond: number;
  /** Tokens generated one by one behind that prompt, a second. */
  readonly decodeTokensPerSecond: number;
}

export interface SpeedOptions extends SessionOptions {
  /** Tokens of the prompt. */
  readonly prompt?: number | undefined;
  /** Tokens generated in a run. */
  readonly tokens?: number | undefined;
  /** Runs, of which the median counts; one more comes first to warm up. */
  readonly runs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Medians over several runs. Which tokens they are does not change what is computed. */
export async function measureSpeed(path: string, options: SpeedOptions = {}): Promise<Speed> {
  const { prompt = 128, tokens = 32, runs = 5, signal, ...session } = options;
  const runner = await openFile(path, session);
  try {
    const times: { prefill: number; decode: number }[] = [];
    for (let run = 0; run <= runs; run++) {
      signal?.throwIfAborted();
      times.push(await once(runner, prompt, tokens));
    }
    const measured = times.slice(1);
    return {
      prefillTokensPerSecond: prompt / median(measured.map(({ prefill }) => prefill)),
      decodeTokensPerSecond: tokens / median(measured.map(({ decode }) => decode)),
    };
  } finally {
    await runner.close();
  }
}

/** Seconds of one prompt and of the tokens behind it. */
async function once(
  runner: FileRunner,
  prompt: number,
  tokens: number,
): Promise<{ prefill: number; decode: number }> {
  const id = (index: number) => index % runner.vocabulary;
  const started = performance.now();
  let cache: Cache = (
    await runner.step(
      Int32Array.from({ length: prompt }, (_, index) => id(index)),
      0,
      runner.empty(),
      1,
    )
  ).cache;
  const read = performance.now();
  for (let index = 0; index < tokens; index++) {
    cache = (await runner.step(Int32Array.of(id(index)), prompt + index, cache, 1)).cache;
  }
  return { prefill: (read - started) / 1000, decode: (performance.now() - read) / 1000 };
}
