/**
 * Flags that methods bring: one for each option that some method has. Help shows those of the methods that are named, with
 * what they mean for them; without a name, the few that most runs need.
 */

import type { Command } from 'commander';
import { Help, Option } from 'commander';
import { formats } from '../formats/index.ts';
import type { Method } from '../contract/method.ts';
import { findMethod, methods } from '../methods/index.ts';
import type { OptionInfo } from '../recipe/options.ts';
import { describeOptions, flagOf } from '../recipe/options.ts';
import { plainValue } from '../recipe/step-text.ts';
import { realNumber } from './common.ts';

const heading = 'Method:';
/** Shown before a method is named, in words for all methods. */
const usual: Readonly<Record<string, string>> = {
  bits: 'bits of a weight: 2, 3, 4 or 8 (default: 4)',
  group: 'weights that share a scale; -1: a whole row',
  type: "gguf: llama.cpp's file type, Q4_K_M, or one of its block types",
};

/** One flag for each option that some method has; what it means for the chosen one is the recipe's business. */
export function methodFlags(of: readonly Method[] = methods): Option[] {
  return [...meaningsOf(of).values()].flatMap((meanings) => {
    const help = meanings.map((meaning) => described(meaning, of.length > 1)).join('; ');
    return flagsFor(meanings[0]!.info, help);
  });
}

interface Meaning {
  readonly info: OptionInfo;
  /** The methods that it is for. */
  readonly names: string[];
}

function meaningsOf(of: readonly Method[]): ReadonlyMap<string, readonly Meaning[]> {
  const known = new Map<string, Meaning[]>();
  for (const { name, options } of of) {
    for (const info of describeOptions(options)) {
      const meanings = known.get(info.name) ?? [];
      known.set(info.name, meanings);
      const same = meanings.find((one) => one.info.help === info.help && one.info.default === info.default);
      if (same) same.names.push(name);
      else meanings.push({ info, names: [name] });
    }
  }
  return known;
}

/** What an option means for some methods. */
function described({ info, names }: Meaning, named: boolean): string {
  // Of a switch the flag that is shown tells what it is without it.
  const plain = info.default === undefined || info.type === 'boolean';
  const standard = plain ? '' : ` (default: ${info.default})`;
  return `${named ? `${names.join(', ')}: ` : ''}${info.help.replace(/\.$/, '')}${standard}`;
}

function flagsFor({ name, type, choices, default: standard }: OptionInfo, help: string): Option[] {
  const flag = flagOf(name);
  const made = (flags: string, text: string) => new Option(flags, text).helpGroup(heading);
  if (type === 'boolean') {
    // Shown is the one that changes something.
    const [on, off] = [made(`--${flag}`, help), made(`--no-${flag}`, `turns this off: ${help}`)];
    return standard === true ? [on.hideHelp(), off] : [on, off.hideHelp()];
  }
  const option = made(`--${flag} <${type === 'number' ? 'number' : 'name'}>`, help);
  if (type === 'number') return [option.argParser(realNumber)];
  return [type === 'mixed' ? option.argParser(plainValue) : option.choices((choices ?? []).map(String))];
}

/** Shown with `--help-all` alone: what few runs need. */
const rare = ['revision', 'separator', 'field', 'activations', 'cache', 'products', 'floats', 'answers'];

/** Adds `--help-all`, and shows of the methods' flags those that are asked about. */
export function withMethodHelp(command: Command): Command {
  const brought = new Set(methodFlags().map(({ long }) => long));
  return command
    .addOption(new Option('--help-all', 'all flags, those of every method too').helpGroup('Help:'))
    .addHelpOption(
      new Option('-h, --help', 'this; with --method NAME the flags of that method').helpGroup('Help:'),
    )
    .on('option:help-all', () => command.help())
    .configureHelp({
      visibleOptions(asked) {
        const others = Help.prototype.visibleOptions.call(this, asked);
        const { helpAll } = asked.opts();
        const own = others.filter(
          (option) => !brought.has(option.long) && (helpAll || !rare.includes(option.attributeName())),
        );
        return [...own, ...shownFlags(asked.opts()).filter(({ hidden }) => !hidden)];
      },
    });
}

function shownFlags({ helpAll, method, format }: Readonly<Record<string, unknown>>): Option[] {
  if (helpAll) return methodFlags();
  const names = typeof method === 'string' ? method.split('+') : recommendedFor(format);
  if (names.length > 0) return methodFlags(names.map((name) => findMethod(name.trim())));
  return Object.entries(usual).flatMap(([name, help]) => {
    const { type } = meaningsOf(methods).get(name)![0]!.info;
    return flagsFor({ name, type: type === 'number' ? type : 'mixed', help }, help);
  });
}

function recommendedFor(format: unknown): string[] {
  const found = Object.entries(formats).find(([name]) => name === format)?.[1];
  return found ? [found.recommend({ bits: 4, text: true, widths: [] }).step.method] : [];
}
