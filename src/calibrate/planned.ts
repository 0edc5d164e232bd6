/** What a walk is going to do: the matrices that are compressed, how, and what has to be collected for them. */

import { LapidaryError } from '../base/errors.ts';
import type { StatisticKind } from '../methods/contract.ts';
import type { Model } from '../models/model.ts';
import type { Planned } from './compress.ts';
import { moreOf } from './statistics.ts';
import type { Target } from './targets.ts';
import { targetsOf } from './targets.ts';
import type { WalkOptions } from './walk.ts';

/** Every matrix that is compressed, with what is collected for it. */
export function planOf(model: Model, { assign, collect = 'none' }: WalkOptions): Planned[] {
  return targetsOf(model).flatMap((target) => {
    const assignment = assign(target);
    if (!assignment) return [];
    const { method, options } = assignment;
    const own = method.shape === 'linear' ? method.statistic(options) : 'none';
    return [{ ...target, ...assignment, statistic: collected(model, target, own, collect) }];
  });
}

/** What is worth collecting for a matrix: tables that are only looked up multiply nothing. */
function collected(model: Model, { place }: Target, own: StatisticKind, least: StatisticKind): StatisticKind {
  if (place === 'block' || place === 'head') return moreOf(own, least);
  // Fitted to the original's hidden states, of which the cross statistic would be zero.
  const ofTable = own === 'cross' ? 'gram' : own;
  return place === 'embedding' && model.config.tiedHead ? ofTable : 'none';
}

/** Whether it is fitted together with its block's other matrices. */
export const isTrained = ({ method, place }: Planned) => method.shape === 'train' && place === 'block';

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
