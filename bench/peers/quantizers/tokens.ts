/**
 * What all quantizers are measured on: the same calibration tokens, and one way to say what a model lost on text that
 * nobody has seen. Run by itself it writes the calibration tokens as JSON.
 *
 *   npx tsx bench/peers/quantizers/tokens.ts --base FOLDER --calibration FILE --out FILE [--sequences 64] [--length 512]
 */

import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { readDocuments } from '../../../src/calibrate/data.ts';
import { packSequences } from '../../../src/calibrate/sequences.ts';
import { modelScorer } from '../../../src/evaluate/blocks.ts';
import { evaluate } from '../../../src/evaluate/evaluate.ts';
import type { LogitChunk, Scorer } from '../../../src/evaluate/scorer.ts';
import { tensor } from '../../../src/graph/session.ts';
import type { Model } from '../../../src/models/model.ts';
import { openModel } from '../../../src/open.ts';
import type { Tokenizer } from '../../../src/tokenizer/tokenizer.ts';

/** Flags that the peers' bench and ours share. */
export const yardstickFlags = {
  base: { type: 'string' },
  calibration: { type: 'string' },
  evaluation: { type: 'string' },
  sequences: { type: 'string', default: '64' },
  held: { type: 'string', default: '16' },
  length: { type: 'string', default: '512' },
  threads: { type: 'string', default: '2' },
} as const;

export interface Yardstick {
  readonly model: Model;
  readonly calibration: readonly Int32Array[];
  readonly threads: number;
  measure(compressed: Model): Promise<Measured>;
}

/** For people and for tables: four digits. */
export interface Measured {
  readonly kl: { readonly mean: number; readonly low: number; readonly high: number };
  readonly perplexity: number;
  readonly agreement: number;
  /** KL of every held-out sequence: of two lines with it, ratios can be paired. */
  readonly klOfSequences: readonly number[];
}

/** @throws Error where a flag is missing */
export async function openYardstick(flags: {
  readonly [Name in keyof typeof yardstickFlags]?: string | undefined;
}): Promise<Yardstick> {
  const { base, calibration, evaluation } = flags;
  if (!base || !calibration || !evaluation)
    throw new Error('--base, --calibration and --evaluation are needed');
  const opened = await openModel(base);
  const [threads, length] = [Number(flags.threads), Number(flags.length)];
  const fitted = await packed(calibration, opened.tokenizer, { count: Number(flags.sequences), length });
  const held = await packed(evaluation, opened.tokenizer, { count: Number(flags.held), length });
  const original = remembered(modelScorer(opened.model!, { threads }));
  const characters = held.map((sequence) => sequence.length);
  return {
    model: opened.model!,
    calibration: fitted,
    threads,
    async measure(compressed) {
      const scorer = modelScorer(compressed, { threads });
      const options = { scorer, against: original, sequences: held, characters, details: true };
      const { kl, perplexity, agreement, details } = await evaluate(options);
      return {
        kl: { mean: show(kl!.mean), low: show(kl!.low!), high: show(kl!.high!) },
        perplexity: show(perplexity.value),
        agreement: show(agreement!.value),
        klOfSequences: details!.sequences.map((sequence) => show(sequence.kl)),
      };
    },
  };
}

export const show = (value: number): number => Number(value.toPrecision(4));

interface Cut {
  readonly count: number;
  readonly length: number;
}

async function packed(path: string, tokenizer: Tokenizer, cut: Cut): Promise<readonly Int32Array[]> {
  const { sequences, note } = packSequences((await readDocuments(path)) as string[], tokenizer, {
    ...cut,
    seed: 0,
  });
  if (note) console.error(note);
  return sequences;
}

/** Says again what it said the first time. */
export function remembered(scorer: Scorer): Scorer {
  const chunks: LogitChunk[] = [];
  let whole = false;
  return {
    ...scorer,
    async *score(sequences, signal) {
      if (whole) return yield* chunks;
      for await (const chunk of scorer.score(sequences, signal)) {
        const { data, dims } = chunk.logits;
        chunks.push({ ...chunk, logits: tensor('float32', dims, (data as Float32Array).slice()) });
        yield chunk;
      }
      whole = true;
    },
  };
}

/** As the peers' scripts read them. */
export function writeTokens(path: string, sequences: readonly Int32Array[]): void {
  writeFileSync(path, JSON.stringify(sequences.map((sequence) => [...sequence])));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values: flags } = parseArgs({
    options: {
      base: { type: 'string' },
      calibration: { type: 'string' },
      out: { type: 'string' },
      sequences: yardstickFlags.sequences,
      length: yardstickFlags.length,
    },
  });
  const { base, calibration, out } = flags;
  if (!base || !calibration || !out) throw new Error('--base, --calibration and --out are needed');
  const { tokenizer } = await openModel(base);
  const cut = { count: Number(flags.sequences), length: Number(flags.length) };
  writeTokens(out, await packed(calibration, tokenizer, cut));
}
