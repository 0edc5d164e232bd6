/** The plan of a walk: which matrices are compressed, how, and which statistics are collected for them. */

import { LapidaryError } from '../base/errors.ts';
import type { Progress } from '../base/progress.ts';
import type { SessionOptions } from '../graph/session.ts';
import type { Journal } from '../io/journal.ts';
import type { Gradients, Importance } from '../contract/gradients.ts';
import type { BlockRewrite, BlockTraining } from '../contract/method.ts';
import type { Statistic, StatisticKind } from '../contract/statistic.ts';
import type { Model } from '../models/model.ts';
import { moreOf } from './statistics.ts';
import type { Assignment, Target } from './targets.ts';
import { targetsOf } from './targets.ts';

export interface WalkOptions extends Pick<SessionOptions, 'device' | 'threads'> {
  /** What is done to a matrix; undefined leaves it as it is. */
  readonly assign: (target: Target) => Assignment | undefined;
  /** Done to each block in this order, before its matrices are compressed. */
  readonly rewrites?: readonly RewriteStep[] | undefined;
  /** Done to each block in this order, after its matrices are compressed. */
  readonly trainings?: readonly TrainingStep[] | undefined;
  /**
   * Of layers' inputs, by the matrix, as somebody else has seen them: who asks for "squares" is given these, and where
   * there are none for a matrix, it is rounded plainly.
   */
  readonly squares?: ReadonlyMap<string, Statistic> | undefined;
  /** Collects at least this, so that errors are those of outputs where the method itself needs no data. */
  readonly collect?: StatisticKind | undefined;
  readonly seed?: number | undefined;
  /** Of all layers and blocks, and of what blocks give, where it is known already; the rest that methods ask for is computed. */
  readonly importance?: Importance | undefined;
  readonly metrics?: Gradients['metrics'];
  readonly progress?: Progress | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Takes every part that is finished, and gives those that an earlier run has. */
  readonly journal?: Journal | undefined;
  /** Told what share of the matrices an earlier run has done, where one has done some. */
  readonly resumed?: ((share: number) => void) | undefined;
}

export interface RewriteStep {
  readonly method: BlockRewrite;
  /** Checked by the method's schema. */
  readonly options: unknown;
}

export interface TrainingStep {
  readonly method: BlockTraining;
  /** Checked by the method's schema. */
  readonly options: unknown;
}

/** A compressed matrix's row in the report. */
export interface LayerRow {
  readonly name: string;
  readonly method: string;
  /** The new encoding, for people. */
  readonly encoding: string;
  /** Relative squared error: of the outputs where inputs were seen ("outputs"), else of the weights. */
  readonly error: number;
  readonly errorOf: 'outputs' | 'weights';
  /** Share of its weights that are zero, where a method chose these. */
  readonly sparsity?: number | undefined;
  readonly bytesBefore: number;
  readonly bytesAfter: number;
  /** Of the method alone, in the run that did it; of a whole block where it is trained, shared out by size. */
  readonly seconds: number;
}

/** A matrix that is to be compressed. */
export interface Planned extends Target, Assignment {
  /** What is collected for it. */
  readonly statistic: StatisticKind;
  /** What the method is given in place of what it would ask for; "nothing" where nothing is known. */
  readonly known?: Statistic | 'nothing' | undefined;
}

/** Every matrix that is compressed, with what is collected for it. */
export function planOf(model: Model, { assign, squares, collect = 'none' }: WalkOptions): Planned[] {
  return targetsOf(model).flatMap((target) => {
    const assignment = assign(target);
    if (!assignment) return [];
    const { method, options } = assignment;
    const own = method.shape === 'linear' ? method.statistic(options) : 'none';
    // What loses nothing has no errors to measure.
    const least = method.shape === 'linear' && method.convert ? 'none' : collect;
    const planned = { ...target, ...assignment };
    if (squares === undefined || own !== 'squares')
      return [{ ...planned, statistic: collected(model, target, own, least) }];
    const known = squares.get(target.name) ?? 'nothing';
    return [{ ...planned, known, statistic: collected(model, target, 'none', least) }];
  });
}

/** What is worth collecting for a matrix: tables that are only looked up multiply nothing. */
function collected(model: Model, { place }: Target, own: StatisticKind, least: StatisticKind): StatisticKind {
  if (place === 'block' || place === 'head' || place === 'exit') return moreOf(own, least);
  // Fitted to the original's hidden states, of which the cross statistic would be zero.
  const ofTable = own === 'cross' ? 'gram' : own;
  return place === 'embedding' && model.config.tiedHead ? ofTable : 'none';
}

/** Whether it is fitted together with its block's other matrices. */
export const isTrained = ({ method, place }: Planned) => method.shape === 'train' && place === 'block';

/** Whether its block's layers are compressed one after the other; what is known of them already is of the original. */
export const isInTurn = ({
  method,
  options,
  place,
  known,
}: Pick<Planned, 'place' | 'method' | 'options' | 'known'>): boolean =>
  place === 'block' &&
  known === undefined &&
  method.shape === 'linear' &&
  method.sequential?.(options) === true;

/** The share of the text that the original sees beside the compressed model; 0 where nobody compares the two. */
export function comparedShare(plan: readonly Planned[], trainings: readonly TrainingStep[]): number {
  if (trainings.length > 0 || plan.some(isTrained)) return 1;
  const asking = plan.filter(({ statistic }) => statistic === 'cross' || statistic === 'all');
  const shareOf = ({ method, options }: Planned) =>
    method.shape === 'linear' ? (method.compared?.(options) ?? 1) : 1;
  return Math.max(0, ...asking.map(shareOf));
}

/** Whether errors are to count by what they do to predictions. */
export const askForMetrics = (trainings: readonly TrainingStep[]): boolean =>
  trainings.some(({ method, options }) => method.fisher(options) > 0);

/** @throws LapidaryError where there is no text and somebody needs some */
export function checkPlan(
  plan: readonly Planned[],
  { rewrites = [], trainings = [] }: WalkOptions,
  sequences: readonly Int32Array[],
): void {
  const needy = plan.find((planned) => planned.statistic !== 'none' || isTrained(planned));
  const rewrite = rewrites.find(({ method, options }) => method.statistic(options) !== 'none');
  const asking = needy ?? rewrite ?? trainings[0];
  if (sequences.length === 0 && asking) {
    throw new LapidaryError({
      what: `the method ${asking.method.name} needs calibration text`,
      where: needy?.name,
      fix: 'give calibration text, or a method that needs none',
    });
  }
  const length = sequences[0]?.length;
  if (sequences.some((sequence) => sequence.length !== length)) {
    throw new RangeError('calibration sequences must be of one length');
  }
}
