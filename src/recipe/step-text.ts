/**
 * A step of a recipe as one line of text, as `--step` has it: a method, then its options, "gptq bits=4 group=32
 * targets=first:2,lm_head". Names are as in a recipe's file, or as flags have them (code-rate); a switch is on by its name
 * alone.
 */

import { closest } from 'fastest-levenshtein';
import { ExitCode, LapidaryError, located } from '../base/errors.ts';
import { shortened } from '../base/json.ts';
import type { Method } from '../contract/method.ts';
import { findMethod } from '../methods/index.ts';
import type { OptionInfo } from './options.ts';
import { describeOptions, parseOptions } from './options.ts';
import type { Step, WrittenStep } from './steps.ts';
import { compresses, isCompression } from './steps.ts';

const form = 'a method, then its options: "gptq bits=4 group=32 targets=first:2,lm_head"';

/**
 * @param where for errors: which of several steps it is
 * @returns what the text says, without defaults; its options are checked by the method's own schema
 * @throws LapidaryError (usage) naming the step, the option, and the nearest known name
 */
export function parseStepText(text: string, where = `step "${text}"`): WrittenStep {
  const [name, ...words] = text.trim().split(/\s+/) as [string, ...string[]];
  const method = methodOf(name, where);
  const known = new Map(describeOptions(method.options).map((info) => [info.name, info]));
  const options: Record<string, unknown> = {};
  let targets: string[] | undefined;
  for (const word of words) {
    const [key, value] = pairOf(word);
    const option = camelCase(key);
    if (option in options || (option === 'targets' && targets)) throw wrong(`${key} is given twice`, where);
    if (option === 'targets' && compresses(method)) targets = listOf(value, where);
    else
      options[option] = valueOf(known.get(option) ?? unknownOption(key, method, known, where), value, where);
  }
  parseOptions(method.options, options, where);
  return { method: method.name, ...(targets ? { targets } : {}), ...options };
}

/** The text of a step: options that are not as they are by default. `parseStepText` reads it back. */
export function stepText(step: Step): string {
  const { method, options } = step;
  const defaults = method.options.parse({}) as Readonly<Record<string, unknown>>;
  const set = Object.entries(options).filter(
    ([key, value]) => value !== defaults[key] && value !== undefined,
  );
  const targets = isCompression(step) && step.targets.join() !== 'blocks' ? [`targets=${step.targets}`] : [];
  return [method.name, ...set.map(([key, value]) => `${key}=${String(value)}`), ...targets].join(' ');
}

function methodOf(name: string, where: string): Method {
  if (name === '' || name.includes('=')) throw wrong('a step begins with a method', where, form);
  if (name.includes('+'))
    throw wrong('a step has one method', where, form, `one step for each of ${name.split('+').join(', ')}`);
  try {
    return findMethod(name);
  } catch (error) {
    throw located(where, error);
  }
}

function pairOf(word: string): readonly [key: string, value: string | undefined] {
  const at = word.indexOf('=');
  return at < 0 ? [word, undefined] : [word.slice(0, at), word.slice(at + 1)];
}

/** As a schema takes it; what does not fit stays a text, which the schema refuses. */
function valueOf(info: OptionInfo, value: string | undefined, where: string): unknown {
  if (value === undefined) {
    if (info.type === 'boolean' || info.alternatives?.includes('true')) return true;
    throw wrong(`option "${info.name}" has no value`, where, `${info.name}=VALUE`);
  }
  return info.type === 'string' ? value : plainValue(value);
}

/** At commas, but for those in braces: "first:2,*.{q_proj,k_proj}". */
function listOf(value: string | undefined, where: string): string[] {
  const found = value?.match(/(?:\{[^}]*\}|[^,{])+/g) ?? [];
  if (found.length > 0) return found;
  throw wrong('targets are left out', where, 'targets=blocks, targets=first:2,lm_head');
}

function unknownOption(
  key: string,
  method: Method,
  known: ReadonlyMap<string, OptionInfo>,
  where: string,
): never {
  const names = [...known.keys(), ...(compresses(method) ? ['targets'] : [])];
  const off = key.startsWith('no-') ? camelCase(key.slice(3)) : '';
  if (known.get(off)?.type === 'boolean')
    throw wrong(`unknown option "${key}"`, where, undefined, `write ${off}=false`);
  throw wrong(
    `unknown option "${shortened(key)}"`,
    where,
    `one of ${names.join(', ')}`,
    `did you mean "${closest(camelCase(key), names)}"?`,
  );
}

const wrong = (what: string, where: string, expected?: string, fix?: string): LapidaryError =>
  new LapidaryError({ what, where, expected, fix }, ExitCode.usage);

/** "code-rate" as recipes have it: "codeRate". */
export const camelCase = (flag: string): string =>
  flag.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());

/** A text as YAML would have it. */
export function plainValue(text: string): unknown {
  if (text === 'true' || text === 'false') return text === 'true';
  return text === '' || Number.isNaN(Number(text)) ? text : Number(text);
}
