/**
 * The steps of a recipe where nobody names any: what an engine or its format recommends for a model, what becomes of the
 * embedding and the head, and what is taken over where the model is quantized already. The command line and the library
 * both ask here.
 */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ExitCode, LapidaryError } from '../base/errors.ts';
import { parseJsonObject } from '../base/json.ts';
import { openGguf } from '../io/gguf/read.ts';
import type { Method, StepInput } from '../contract/method.ts';
import { findMethod } from '../methods/index.ts';
import type { StoredGrid } from '../models/quantized/index.ts';
import { describeOptions } from '../recipe/options.ts';
import type { WrittenStep } from '../recipe/steps.ts';
import { compresses } from '../recipe/steps.ts';
import type { Destination, FormatName } from './engines.ts';
import { fitted } from './fitted.ts';
import { formats } from './index.ts';
import type { Recommendation } from './recommend.ts';
import { kept } from './recommend.ts';

export interface Asked extends Destination {
  /** Where the model is, if it is on this machine. */
  readonly model?: string | undefined;
  /** Left out: what the engine is best with. */
  readonly bits?: number | undefined;
  /** Whether there is calibration text, or an importance matrix in its place. */
  readonly text: boolean;
  readonly imatrix: boolean;
  /** See `Wanted.quick`. */
  readonly quick?: boolean | undefined;
}

type Options = Readonly<Record<string, unknown>>;

const bitsOf = ({ bits, engine }: Asked): number => bits ?? engine.bits ?? 4;

/** What the engine or its format recommends, as far as that is known before the model is opened. */
export function recommendation(asked: Asked): Recommendation {
  const { format, engine, model, text, imatrix, quick } = asked;
  const wanted = { bits: bitsOf(asked), text, imatrix, quick, widths: widthsOf(model) };
  return engine.recommend?.(wanted) ?? formats[format].recommend(wanted);
}

/** Whether what is quantized already can be taken over: the format holds it, and it has no more bits than are asked for. */
export function canKeep(stored: StoredGrid | undefined, asked: Asked): stored is StoredGrid {
  if (!stored || stored.bits > bitsOf(asked)) return false;
  const { grids } = formats[asked.format];
  return (grids.offsets || !stored.offsets) && (grids.wideScales || stored.halfScales);
}

/** Of a model on this machine; what is wrong with it is said when it is opened. */
function widthsOf(model: string | undefined): readonly number[] {
  try {
    if (model?.endsWith('.gguf')) {
      const blocks = [...openGguf(model).tensors].filter(([name]) => name.startsWith('blk.'));
      return [...new Set(blocks.flatMap(([, { shape }]) => (shape.length === 2 ? shape[1] : [])))];
    }
    const path = join(model ?? '', 'config.json');
    const json = parseJsonObject(readFileSync(path), { where: path });
    return [json.hidden_size, json.intermediate_size].filter((width) => typeof width === 'number');
  } catch {
    return [];
  }
}

/**
 * "smoothquant+w8a8": its methods in order; where the last one is a rewrite, what it wants behind it.
 * @throws LapidaryError (usage) for an unknown method
 */
export function chainOf(names: string): readonly Method[] {
  const chain = names.split('+').map((name) => findMethod(name.trim()));
  const last = chain.at(-1)!;
  const follower = last.shape === 'rewrite' ? last.followedBy : undefined;
  return follower ? [...chain, findMethod(follower.method)] : chain;
}

/**
 * The steps of a chain, each with those of the options that it has.
 * @param start options of the compressor to begin with: a rewrite that is last of all names goes before these
 */
export function stepsOfChain(
  names: string,
  {
    format,
    start,
    options,
  }: { readonly format: FormatName; readonly start?: StepInput | undefined; readonly options: Options },
): WrittenStep[] {
  const named = findMethod(names.split('+').at(-1)!.trim());
  const follower = named.shape === 'rewrite' ? named.followedBy : start;
  return chainOf(names).map((method) => {
    const known = optionNames(method);
    const own = Object.fromEntries(Object.entries(options).filter(([name]) => known.includes(name)));
    if (!compresses(method)) return { method: method.name, ...own };
    const step = { ...follower, method: method.name, targets: ['blocks'], ...own };
    return fitted(step, formats[format], own);
  });
}

export const optionNames = ({ options }: Method): string[] =>
  describeOptions(options).map(({ name }) => name);

/** What is asked of the embedding and the head. */
export interface TablesAsked {
  readonly format: FormatName;
  /** 16 keeps them; left out: what is recommended, else 8. */
  readonly bits?: number | undefined;
  /** What goes with recommended steps. */
  readonly recommended?: StepInput | undefined;
  /** Whether the steps are somebody's own, which say themselves what becomes of tables. */
  readonly own?: boolean | undefined;
}

/**
 * Round-to-nearest with more bits on the embedding and the head, unless the method chooses by matrix or the format keeps
 * these as they are.
 * @returns the steps, changed where they are for tables too, and those for tables that follow them
 * @throws LapidaryError (usage) on bits that the format does not store tables in
 */
export function withTables(
  steps: readonly WrittenStep[],
  { format, bits: asked, recommended, own = false }: TablesAsked,
): { readonly steps: readonly WrittenStep[]; readonly tables: readonly WrittenStep[] } {
  const { keepsTables, label } = formats[format];
  if (keepsTables && asked !== undefined && asked < 16) {
    throw new LapidaryError(
      {
        what: `${asked} bits for the embedding: ${label} keeps the embedding and the head as they are`,
        where: 'embedding bits',
        fix: 'leave it out',
      },
      ExitCode.usage,
    );
  }
  if (asked === undefined && (own || keepsTables)) return { steps, tables: [] };
  const main = steps.findLast(({ targets }) => targets);
  // What compresses no matrix leaves tables as they are.
  if (!main) return { steps, tables: [] };
  const { at, convert } = findMethod(main.method) as { at?: unknown; convert?: unknown };
  // Methods that choose by matrix, or change none, are for these too.
  if ((at || convert) && asked === undefined) {
    const both = { ...main, targets: ['blocks', 'embeddings'] };
    return { steps: steps.map((step) => (step === main ? both : step)), tables: [] };
  }
  // A later step wins where two name the same matrices.
  const others = steps.flatMap((step): WrittenStep[] => {
    if (!step.targets?.includes('embeddings')) return [step];
    const targets = step.targets.filter((target) => target !== 'embeddings');
    return targets.length > 0 ? [{ ...step, targets }] : [];
  });
  if (recommended && asked === undefined)
    return { steps: others, tables: [{ ...recommended, targets: ['embeddings'] }] };
  const bits = asked ?? 8;
  const plain = { method: 'rtn', targets: ['embeddings'], bits, group: 32 };
  return { steps: others, tables: bits < 16 ? [fitted(plain, formats[format])] : [] };
}

/** Options by which an importance matrix is enough, unless a step says otherwise itself. */
export function bySquares(steps: readonly WrittenStep[]): WrittenStep[] {
  return steps.map((step) => {
    const method = findMethod(step.method);
    const enough = method.shape === 'linear' ? (method.bySquares as Options | undefined) : undefined;
    return { ...enough, ...step };
  });
}

/** What leaves all weights floats, those that are quantized already, too. */
export const keptFloats: readonly WrittenStep[] = [
  { method: 'keep', targets: ['blocks', 'embeddings'], form: 'floats' },
];

/**
 * The steps for who names no method, and why these.
 * @param given.options of the method, in place of what is recommended
 */
export function recommendedSteps(
  asked: Asked,
  given: {
    readonly stored?: StoredGrid | undefined;
    readonly embeddingBits?: number | undefined;
    readonly options?: Options;
  },
): { readonly steps: readonly WrittenStep[]; readonly reason: string } {
  const { format, imatrix } = asked;
  const chosen = canKeep(given.stored, asked) ? kept(given.stored) : recommendation(asked);
  const chain = stepsOfChain(chosen.step.method, {
    format,
    start: chosen.step,
    options: given.options ?? {},
  });
  const bits = given.embeddingBits;
  const { steps, tables } = withTables(chain, { format, bits, recommended: chosen.tables });
  const all = [...steps, ...tables];
  return { steps: imatrix ? bySquares(all) : all, reason: chosen.reason };
}
