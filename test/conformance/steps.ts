/** Recipes of one method, whichever it is, as small as they can be. */

import type { Family, Method } from '../../src/contract/method.ts';
import type { OptionInfo } from '../../src/recipe/options.ts';
import { describeOptions } from '../../src/recipe/options.ts';
import { compresses } from '../../src/recipe/steps.ts';

export type Options = Readonly<Record<string, unknown>>;

/** A method alone, or with what it follows. */
export function stepsOf(family: Family, method: Method, own: Options = {}): object[] {
  const step = { method, ...own };
  if (compresses(method)) return [step];
  if (method.shape === 'rewrite') return method.followedBy ? [step, method.followedBy] : [step];
  return [{ method: family.baseline }, step];
}

export const isMany = ({ maximum = 0 }: Pick<OptionInfo, 'maximum'>): boolean => maximum > 16;

/** Numbers that may be large, as of steps, at their least or a little more: what is written does not hang on them. */
export const fewSteps = ({ options }: Method, most = 0): Options =>
  Object.fromEntries(
    describeOptions(options)
      .filter(isMany)
      .map(({ name, minimum = 0 }) => [name, Math.max(minimum, most)]),
  );
