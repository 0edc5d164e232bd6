/** A step with what a format wants of its method: what is not asked for otherwise. */

import type { StepInput } from '../methods/contract.ts';
import { findMethod } from '../methods/index.ts';
import { describeOptions } from '../options.ts';
import type { Format } from './format.ts';

/**
 * Only options that the method has.
 * @param asked stays as it is
 */
export function fitted<S extends StepInput>(
  step: S,
  { fitting }: Pick<Format, 'fitting'>,
  asked: Readonly<Record<string, unknown>> = {},
): S {
  const known = describeOptions(findMethod(step.method).options).map(({ name }) => name);
  const wanted = Object.entries(fitting(step)).filter(([name]) => known.includes(name));
  return { ...step, ...Object.fromEntries(wanted), ...asked };
}
