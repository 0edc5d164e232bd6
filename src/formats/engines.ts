/** What runs a result, by the names that people have for it, and the format that each of them loads. */

import { closest, distance } from 'fastest-levenshtein';
import { ExitCode, LapidaryError } from '../base/errors.ts';
import { shortened } from '../base/json.ts';
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
  const name = engineNamed(engine);
  const entries = Object.entries(formats) as [FormatName, (typeof formats)[FormatName]][];
  const [own, { engines }] = entries.find(([, { engines }]) => Object.hasOwn(engines, name))!;
  if (format === undefined || format === own) return { format: own, engine: engines[name]! };
  const runs = entries.filter(([key, { alsoRunBy = [] }]) => key === own || alsoRunBy.includes(name));
  if (runs.some(([key]) => key === format)) return { format, engine: {} };
  throw new LapidaryError(
    {
      what: `${name} does not run ${formats[format].label}`,
      where: 'format',
      expected: `${runs.map(([key]) => key).join(' or ')}, or none beside the engine`,
    },
    ExitCode.usage,
  );
}

/** However it is written: "LM Studio", "llamacpp", "Transformers.js". */
const plainly = (name: string): string => name.toLowerCase().replace(/[^a-z0-9]/g, '');

function engineNamed(text: string): EngineName {
  const found = engineNames.find((name) => plainly(name) === plainly(text));
  if (found) return found;
  const near = closest(text, engineNames);
  const isNear = 3 * distance(text, near) <= text.length;
  throw new LapidaryError(
    {
      what: `there is no engine "${shortened(text)}"`,
      where: 'for',
      expected: engineNames.join(', '),
      fix: isNear ? `did you mean "${near}"?` : undefined,
    },
    ExitCode.usage,
  );
}
