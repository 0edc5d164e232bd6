/** `lapidary methods`: what every method is, what it needs, and its options. */

import { Command } from 'commander';
import type { MethodDescription } from '../formats/describe.ts';
import { defaultOf, describeMethod, kinds, rangeOf } from '../formats/describe.ts';
import { findMethod, methods } from '../methods/index.ts';
import type { OptionInfo } from '../recipe/options.ts';
import { flagOf } from '../recipe/options.ts';
import { jsonOption, print } from './common.ts';

export function command(): Command {
  return new Command('methods')
    .summary('what every method is, what it needs, and its options')
    .description(
      'Lists the methods that --method and recipes name; with a name, one of them with its options.',
    )
    .argument('[name]', 'of one method')
    .addOption(jsonOption())
    .addHelpText(
      'after',
      `
Examples:
  lapidary methods
  lapidary methods gptq
  lapidary compress --method gptq --help`,
    )
    .action((name: string | undefined, { json }: { readonly json?: boolean }) => {
      const all = name === undefined ? methods.map(describeMethod) : [describeMethod(findMethod(name))];
      if (json) return print(JSON.stringify(name === undefined ? { methods: all } : all[0]));
      print(name === undefined ? listed(all) : inFull(all[0]!));
    });
}

function listed(all: readonly MethodDescription[]): string {
  const groups = Object.values(kinds).map((kind) => {
    const own = all.filter((each) => each.kind === kind);
    return [`${kind[0]!.toUpperCase()}${kind.slice(1)}`, ...own.map(inShort)].join('\n\n');
  });
  return [...groups, 'Options of one: lapidary methods NAME'].join('\n\n');
}

const inShort = ({ name, summary, needs }: MethodDescription): string =>
  `  ${name}\n${wrapped(summary, 4)}\n${wrapped(`Needs ${needs}.`, 4)}`;

function inFull({ name, kind, summary, needs, options }: MethodDescription): string {
  const head = [wrapped(`${name}: ${summary}`, 0), wrapped(`Kind: ${kind}.`, 0), `Needs: ${needs}.`];
  const own = options.map((option) => `  ${signature(option)}\n${wrapped(option.help, 6)}`);
  return [...head, ...(own.length > 0 ? ['', 'Options:', ...own] : ['', 'It has no options.'])].join('\n');
}

/** "--bits <number>: 2, 3, 4, 8 (default: 4)" */
function signature(option: OptionInfo): string {
  const { name, type, default: standard } = option;
  const flag = flagOf(name);
  const switched = standard === true ? `--no-${flag}` : `--${flag}`;
  const given = type === 'boolean' ? switched : `--${flag} <${type === 'number' ? 'number' : 'name'}>`;
  const may = type === 'boolean' ? '' : rangeOf(option);
  const otherwise = defaultOf(option);
  return `${given}${may ? `: ${may}` : ''}${otherwise ? ` (default: ${otherwise})` : ''}`;
}

/** In lines of 80 columns. */
function wrapped(text: string, indent: number): string {
  const lines = [''];
  for (const word of text.split(' ')) {
    const longer = `${lines.at(-1)}${lines.at(-1) ? ' ' : ''}${word}`;
    if (indent + longer.length <= 80 || lines.at(-1) === '') lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines.map((line) => `${' '.repeat(indent)}${line}`).join('\n');
}
