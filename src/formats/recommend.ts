/**
 * The recipe where nobody names a method: what loses least for its bytes by the table in docs/benchmarks.md ("Methods side by
 * side"), among what the target engine runs.
 */

import type { StepInput } from '../contract/method.ts';

export interface Wanted {
  readonly bits: number;
  /** Whether there is calibration text. */
  readonly text: boolean;
  /** Whether there is an importance matrix in its place. */
  readonly imatrix?: boolean | undefined;
  /** Whether it is a first look at what the package does, by its own model and text. */
  readonly quick?: boolean | undefined;
  /** Columns of the matrices in blocks, which groups should divide; empty where they are not known yet. */
  readonly widths: readonly number[];
}

export interface Recommendation {
  readonly step: StepInput;
  /** Of the embedding and the head, where it is not round-to-nearest in 8 bits. */
  readonly tables?: StepInput;
  /** For people: why this one, in a few plain words; the figures are in docs/benchmarks.md. */
  readonly reason: string;
}

/** The first of these sizes that divides all rows, or else the last. */
export function groupFor(widths: readonly number[], sizes: readonly number[]): number {
  return sizes.find((size) => widths.every((width) => width % size === 0)) ?? sizes.at(-1)!;
}

/**
 * Integers in groups.
 * @param own what the format asks of every method: its group
 * @param ofGptq what it asks of this one besides
 */
export function integers(
  { bits, text, quick = false }: Wanted,
  own: Readonly<Record<string, unknown>>,
  ofGptq: Readonly<Record<string, unknown>> = {},
): Recommendation {
  if (bits === 8) {
    const reason = 'at 8 bits the nearest code loses next to nothing';
    return { step: { method: 'rtn', bits, ...own, symmetric: true }, reason };
  }
  if (!text) {
    // At the same bytes hqq loses no less, since its offsets take them (docs/benchmarks.md, "Without text, at the same bytes").
    const reason = 'it needs no text; with one, less would be lost';
    return { step: { method: 'rtn', bits, ...own }, reason };
  }
  // Damping measured at 3 bits (docs/benchmarks.md): 0.466 with it, 0.507 without; at 4 it makes no difference.
  const damping = bits < 4 ? { damping: 0.05 } : {};
  // On the text of the model that ships no more is lost so, in two thirds of the time; on others up to 6% (docs/lab/speed.md).
  const correction = quick ? { asymmetric: 0.75, compared: 0.5 } : { asymmetric: 1 };
  return {
    step: { method: 'gptq', bits, passes: 2, ...correction, ...damping, ...own, ...ofGptq },
    reason: 'it loses least of what takes minutes',
  };
}

/** What is quantized already to no more bits than are asked for. */
export function kept({ bits }: { readonly bits: number }): Recommendation {
  return {
    step: { method: 'keep', strict: false },
    reason: `the model is quantized to ${bits} bits already, and these are taken over without loss`,
  };
}

/** Block types of ggml. */
export function blocks({ bits, text, imatrix = false }: Wanted): Recommendation {
  const type = ({ 2: 'Q2_K', 3: 'Q3_K_M', 4: 'Q4_K_M', 8: 'Q8_0' } as Record<number, string>)[bits];
  const step = { method: 'ggml', ...(type ? { type } : {}) };
  if (imatrix) {
    const reason = "llama.cpp's own mix of types, rounded by your importance matrix";
    return { step: { ...step, fit: 'importance' }, reason };
  }
  return {
    step: {
      ...step,
      ...(text ? { asymmetric: 1 } : { fit: 'plain' }),
    },
    reason: text
      ? "llama.cpp's own mix of types, with errors compensated"
      : "llama.cpp's own mix of types; with a text, less would be lost",
  };
}

/** 8-bit integers times 8-bit integers, for engines without a product of floats with codes. */
export function integerProducts({ bits, text }: Wanted): Recommendation | undefined {
  if (bits !== 8) return undefined;
  return {
    step: { method: text ? 'smoothquant+w8a8' : 'w8a8' },
    tables: { method: 'w8a8' },
    reason: 'WebAssembly multiplies 8-bit integers at twice the rate of floats',
  };
}
