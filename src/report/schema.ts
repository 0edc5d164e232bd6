/**
 * What report.json holds: plain data, written by every run and read back by `lapidary report`, by the page and by
 * whoever wants the numbers. All that differs from run to run is in `speed` and `timings`; the rest is the same for
 * the same recipe. Needs nothing of Node, so that the page can have its types from here.
 */

import { z } from 'zod';
import { LapidaryError } from '../base/errors.ts';
import { isObject, parseJson, shortened } from '../base/json.ts';

/** Of this layout: raised when a reader of the old one would read the new one wrongly. */
const format = 1;

const list = <T extends z.ZodType>(item: T) => z.array(item).readonly();

/** A value and its 95% interval, which of a single sequence there is none; JSON has no infinity and says null. */
const real = z
  .number()
  .nullable()
  .transform((value) => value ?? Infinity);
const estimate = z.object({ value: real, low: real.optional(), high: real.optional() });

const measures = z.object({
  bytes: z.number(),
  parameters: z.number(),
  bitsPerWeight: z.number(),
  multiplyAdds: z.number(),
  /** Predicted ones. */
  tokens: z.number().optional(),
  nats: z.number().optional(),
  perplexity: estimate.optional(),
  /** Of the two models on the same text: far narrower than the interval of either. */
  perplexityRatio: estimate.optional(),
  bitsPerCharacter: estimate.optional(),
  /** Nats a token; the interval is the mean's. */
  kl: z
    .object({
      mean: z.number(),
      median: z.number(),
      p99: z.number(),
      low: z.number().optional(),
      high: z.number().optional(),
    })
    .optional(),
  agreement: estimate.optional(),
});

const speed = z.object({ prefillTokensPerSecond: z.number(), decodeTokensPerSecond: z.number() });

/** One engine that loaded the written file; differences of logits to the model in memory. */
const check = z.object({
  engine: z.string(),
  /** Of the worst token: root mean square difference of its logits, in spreads of the logits. */
  worst: z.number(),
  /** What `worst` may be. */
  tolerance: z.number(),
  /** Largest difference of a logit. */
  maxDifference: z.number(),
});

const stored = z.object({ label: z.string(), bytes: z.number() });

const tensor = z.object({
  name: z.string(),
  /** What it is in its layer ("q_proj", "norms and biases") or outside ("embedding", "head"). */
  kind: z.string(),
  /** Of a block's tensor. */
  layer: z.number().optional(),
  /** As it was, or where it was not there before, as it is. */
  shape: list(z.number()),
  /** Missing where it was not there before. */
  before: stored.optional(),
  /** Missing where it is gone. */
  after: stored.optional(),
  /** Share of its weights that are zero, where these were chosen: pruned. */
  sparsity: z.number().optional(),
  method: z.string().optional(),
  /** Relative squared error; missing where nothing was compressed. */
  error: z.number().optional(),
  errorOf: z.enum(['outputs', 'weights']).optional(),
});

/** Of what has a value a layer, one for each. */
const structure = z.object({
  layers: z.number(),
  hidden: z.number(),
  vocabulary: z.number(),
  /** Positions that convolutions in the place of attention see; 0 for layers without, missing where there are none. */
  convolutions: list(z.number()).optional(),
  heads: list(z.number()),
  keyValueHeads: list(z.number()),
  headSize: list(z.number()),
  intermediate: list(z.number()),
  /** 0 for layers with one feed-forward; missing where there are no others. */
  experts: list(z.number()).optional(),
});

const meanLoss = z.object({
  tokens: z.number(),
  nats: z.number(),
  originalNats: z.number(),
  kl: z.number(),
  same: z.number(),
});

/** What a model said: its most likely token and how likely it and the text's own token were. */
const answer = z.object({ top: z.string(), probability: z.number(), target: z.number() });

const evaluation = z.object({
  /** Where the text is from, for people. */
  data: z.string(),
  sequences: list(meanLoss),
  positions: list(meanLoss.extend({ from: z.number(), to: z.number() })),
  divergences: list(z.object({ from: z.number(), to: z.number(), tokens: z.number() })),
  /** First those whose most likely token became another, then those that moved; each worst first. */
  changed: list(
    z.object({
      sequence: z.number(),
      position: z.number(),
      kl: z.number(),
      /** Text before the token, and the token that stood there. */
      context: z.string(),
      target: z.string(),
      original: answer,
      compressed: answer,
    }),
  ),
});

const schema = z.object({
  format: z.literal(format),
  /** Of the output folder. */
  name: z.string(),
  model: z.string(),
  modelType: z.string(),
  /** "ONNX for transformers.js (q4)", "GGUF Q4_K_M" */
  target: z.string(),
  /** What was done, in one line. */
  summary: z.string(),
  /** Sentences that a reader must know. */
  notes: list(z.string()),
  original: measures,
  compressed: measures,
  speed: z
    .object({ original: speed.optional(), compressed: speed.optional(), engine: z.string() })
    .optional(),
  files: list(z.object({ path: z.string(), type: z.string(), bytes: z.number(), checks: list(check) })),
  tensors: list(tensor),
  /** What the model is built of, where that was changed. */
  structure: z.object({ before: structure, after: structure }).optional(),
  /** What both models wrote behind the same prompts, greedily; missing where they were not asked. */
  answers: list(
    z.object({
      prompt: z.string(),
      original: z.string(),
      compressed: z.string(),
      /** What ran both; missing in reports of earlier versions. */
      engine: z.string().optional(),
    }),
  ).optional(),
  /** Missing where there was no text to measure on. */
  evaluation: evaluation.optional(),
  /** Complete. */
  recipe: z.record(z.string(), z.unknown()),
  /** What it takes to make it again: command, versions, hashes. */
  reproduction: list(z.tuple([z.string(), z.string()]).readonly()),
  timings: z.object({
    seconds: z.record(z.string(), z.number()),
    machine: z.string(),
    /** When the run ended, in ISO 8601; missing in reports of earlier versions. */
    finished: z.string().optional(),
  }),
});

export type ReportData = z.output<typeof schema>;
export type ReportMeasures = ReportData['original'];
export type ReportStructure = z.output<typeof structure>;
export type ReportTensor = ReportData['tensors'][number];
export type ReportEvaluation = NonNullable<ReportData['evaluation']>;

/** Reads report.json back. @throws LapidaryError on what is not one */
export function parseReport(text: string, where = 'report.json'): ReportData {
  const value = parseJson(text, { where, what: 'this is not a report' });
  if (isObject(value) && typeof value.format === 'number' && value.format !== format) {
    throw new LapidaryError({
      what: 'a report in a layout that this version does not read',
      where,
      expected: `format ${format}`,
      found: `format ${value.format}`,
      fix: value.format > format ? 'use a newer Lapidary' : 'compress again with this version',
    });
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw notAReport(where, `${issue.path.join('.') || shortened(value)}: ${issue.message}`);
}

function notAReport(where: string, found: string): LapidaryError {
  return new LapidaryError({
    what: 'this is not a report',
    where,
    expected: 'report.json as lapidary compress writes it',
    found: shortened(found),
  });
}
