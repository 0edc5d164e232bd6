/** Types of one model that stand side by side in a folder, by the names that their users know: q4, q8, fp16; Q4_K_M, Q8_0. */

import { closest } from 'fastest-levenshtein';
import { ExitCode, LapidaryError } from '../base/errors.ts';
import { shortened } from '../base/json.ts';
import type { StoredGrid } from '../models/quantized/index.ts';
import type { AskedType } from './format.ts';
import type { FormatName } from './engines.ts';
import { formats } from './index.ts';

/** Formats that have such types. */
const holders = () => Object.entries(formats).filter(([, { types }]) => types !== undefined);

/**
 * What each of the named types asks of a recipe, by its name, in the order that they are named in: the first is what
 * engines load by default.
 * @throws LapidaryError (usage) on a name that the format does not have, one that is there twice, or none
 */
export function typesNamed(names: readonly string[], format: FormatName): ReadonlyMap<string, AskedType> {
  const { types: known, label } = formats[format];
  if (!known) {
    const others = holders().map(([name]) => name);
    throw refused(`${label} has one type a folder`, names.join(), `format ${others.join(' or ')}`);
  }
  const asked = new Map<string, AskedType>();
  for (const each of names.map((name) => name.trim())) {
    const all = Object.keys(known);
    const name = all.find((one) => same(one, each));
    if (name === undefined) {
      const near = closest(each, all);
      throw refused(
        `there is no type "${shortened(each)}" of ${label}`,
        each,
        all.join(', '),
        `did you mean ${near}?`,
      );
    }
    if (asked.has(name))
      throw refused(`type ${name} is named twice`, names.join(), 'each type once', 'leave one out');
    asked.set(name, known[name]!);
  }
  if (asked.size === 0) throw refused(`no type of ${label} is named`, 'none', Object.keys(known).join(', '));
  return asked;
}

/** The format that has all of these types; undefined where none has. */
export const formatOf = (names: readonly string[]): FormatName | undefined =>
  holders().find(([, { types }]) =>
    names.every((name) => Object.keys(types!).some((one) => same(one, name))),
  )?.[0] as FormatName | undefined;

/** What a model is quantized to already, where it is as many bits as the type has: only then is it taken over for it. */
export const keptFor = ({ options }: AskedType, stored: StoredGrid | undefined): StoredGrid | undefined =>
  options && 'bits' in options && stored?.bits === options.bits ? stored : undefined;

const same = (one: string, another: string) => one.toLowerCase() === another.trim().toLowerCase();

const refused = (what: string, found: string, expected: string, fix?: string): LapidaryError =>
  new LapidaryError({ what, where: 'types', expected, found, fix }, ExitCode.usage);
