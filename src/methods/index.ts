/** The methods that recipes can name, by family. A family is a line here and a folder with an index of its own. */

import { closest, distance } from 'fastest-levenshtein';
import { ExitCode, LapidaryError } from '../base/errors.ts';
import type { Family, Method, StepOf } from '../contract/method.ts';
import { quantize } from './quantize/index.ts';

const all = [quantize] as const satisfies readonly Family[];

export const families: readonly Family[] = all;

/** A step by one of these methods, as recipes have it: see `StepOf`. */
export type BuiltInStep = StepOf<(typeof all)[number]['methods'][number]>;

export const methods: readonly Method[] = families.flatMap((family) => family.methods);

/** The family that a method stands in; undefined of a method that is none of the project's. */
export const familyOf = (method: Method): Family | undefined =>
  families.find((family) => family.methods.includes(method));

/** @throws LapidaryError for an unknown name, with the nearest known one. */
export function findMethod(name: string): Method {
  const found = methods.find((method) => method.name === name);
  if (found) return found;
  const names = methods.map((method) => method.name);
  const near = closest(name, names);
  throw new LapidaryError(
    {
      what: `there is no method "${name}"`,
      expected: names.join(', '),
      ...(distance(name, near) <= 3 ? { fix: `did you mean "${near}"?` } : {}),
    },
    ExitCode.usage,
  );
}
