/**
 * Calibration text that the model writes itself, for who has none (Liu et al. 2023, LLM-QAT, arXiv:2305.17888): drawn
 * from its own distribution at temperature 1, several sequences at a time. After an end of text another one begins.
 */

import type { Progress } from '../base/progress.ts';
import { random } from '../base/random.ts';
import { openFile } from '../evaluate/file.ts';
import { exportGraph } from '../export/graph.ts';
import type { SessionOptions } from '../graph/session.ts';
import type { Model } from '../models/model.ts';
import { sampler } from './sample.ts';

export interface SampledTextOptions extends Pick<SessionOptions, 'device' | 'threads'> {
  readonly count: number;
  /** Tokens of a sequence. */
  readonly length: number;
  readonly seed: number;
  readonly progress?: Progress | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Sequences written together: a step costs little more for several. */
const together = 16;

/** @returns token ids, all of one length; the same for the same seed */
export async function sampledSequences(
  { config, ...model }: Model,
  { count, length, seed, progress, signal, ...session }: SampledTextOptions,
): Promise<readonly Int32Array[]> {
  const runner = await openFile(exportGraph({ ...model, config }), session);
  const source = random(seed);
  const pick = sampler({ temperature: 1, seed });
  const first = () => config.bos ?? source.integer(config.vocabulary);
  const ends = new Set(config.eos);
  const sequences: Int32Array[] = [];
  try {
    for (let from = 0; from < count; from += together) {
      const rows = Math.min(together, count - from);
      const written = Array.from({ length: rows }, () => new Int32Array(length));
      let next = Int32Array.from({ length: rows }, first);
      let cache = runner.empty(rows);
      for (let at = 0; at < length; at++) {
        signal?.throwIfAborted();
        progress?.({
          phase: 'write calibration text',
          done: from * length + at * rows,
          total: count * length,
        });
        written.forEach((sequence, row) => void (sequence[at] = next[row]));
        if (at === length - 1) break;
        const step = await runner.step(next, at, cache, 1, rows);
        cache = step.cache;
        const logits = step.logits.data as Float32Array;
        next = next.map((last, row) =>
          ends.has(last)
            ? first()
            : pick(logits.subarray(row * runner.vocabulary, (row + 1) * runner.vocabulary)),
        );
        await new Promise((resolve) => setImmediate(resolve));
      }
      sequences.push(...written);
    }
    return sequences;
  } finally {
    await runner.close();
  }
}
