/** Adds to a step the options that a format needs of its method, unless the user gave others. */

import type { StepInput } from '../contract/method.ts';
import { findMethod } from '../methods/index.ts';
import { describeOptions } from '../recipe/options.ts';
import type { Format } from './format.ts';

/**
 * Only options that the method has, with values that it takes.
 * @param asked stays as it is
 */
export function fitted<S extends StepInput>(
  step: S,
  { fitting }: Pick<Format, 'fitting'>,
  asked: Readonly<Record<string, unknown>> = {},
): S {
  const known = new Map(describeOptions(findMethod(step.method).options).map((info) => [info.name, info]));
  const takes = ([name, value]: [string, unknown]) =>
    known.get(name)?.choices?.some((choice) => choice === value) ?? known.has(name);
  const wanted = Object.entries(fitting(step)).filter(takes);
  return { ...step, ...Object.fromEntries(wanted), ...asked };
}
