/** How fast a GGUF file runs in llama.cpp here: prompt and generated tokens a second. */

import { median } from '../../evaluate/bootstrap.ts';
import type { Speed, SpeedOptions } from '../../evaluate/speed.ts';
import type { Llama } from './find.ts';
import { askLlama } from './process.ts';

/** Medians over several runs, as `measureSpeed` takes them of ONNX files; on the CPU. */
export async function measureLlamaSpeed(
  { entry }: Llama,
  path: string,
  { prompt = 128, tokens = 32, runs = 5, ...options }: Omit<SpeedOptions, 'device'> = {},
): Promise<Speed> {
  const times = await askLlama(entry, 'times', { path, prompt, tokens, runs }, options);
  return {
    prefillTokensPerSecond: prompt / median(times.map(({ prefill }) => prefill)),
    decodeTokensPerSecond: tokens / median(times.map(({ decode }) => decode)),
  };
}
