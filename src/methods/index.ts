/** The methods that recipes can name. Adding one is a line here and its own file. */

import { closest, distance } from 'fastest-levenshtein';
import { ExitCode, LapidaryError } from '../base/errors.ts';
import type { Method } from './contract.ts';
import { gptq } from './quantize/gptq.ts';
import { ggml } from './quantize/ggml.ts';
import { rtn } from './quantize/rtn.ts';

export const methods: readonly Method[] = [gptq, ggml, rtn];

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
