/** What runs a result, by the names that people have for it, and the format that each of them loads. */

import { closest } from 'fastest-levenshtein';
import { ExitCode, LapidaryError } from '../base/errors.ts';
import type { Recipe } from '../recipe/recipe.ts';
import type { Engine, EngineName } from './format.ts';
import { formats } from './index.ts';

export type FormatName = Recipe['export']['format'];

export const engineNames: readonly EngineName[] = Object.values(formats).flatMap(
  ({ engines }) => Object.keys(engines) as EngineName[],
);

/** Where a result will run: the format, and what the engine wants of it. */
export interface Destination {
  readonly format: FormatName;
  readonly engine: Engine;
}

/**
 * @param engine as `for` and `--for` name it; @param format that is asked for; without either, `otherwise`
 * @throws LapidaryError (usage) for an unknown name, or an engine that does not run the format
 */
export function destinationOf(
  engine: string | undefined,
  format: FormatName | undefined,
  otherwise: FormatName = 'onnx',
): Destination {
  if (engine === undefined) return { format: format ?? otherwise, engine: {} };
  const found = Object.entries(formats).find(([, { engines }]) => Object.hasOwn(engines, engine));
  if (!found) {
    throw new LapidaryError(
      {
        what: `there is no engine "${engine}"`,
        where: 'for',
        expected: engineNames.join(', '),
        fix: `did you mean "${closest(engine, engineNames)}"?`,
      },
      ExitCode.usage,
    );
  }
  const own = found[0] as FormatName;
  if (format !== undefined && format !== own) {
    throw new LapidaryError(
      {
        what: `${engine} does not run ${formats[format].label}`,
        where: 'format',
        expected: `${own}, or none beside the engine`,
      },
      ExitCode.usage,
    );
  }
  return { format: own, engine: found[1].engines[engine as EngineName]! };
}
