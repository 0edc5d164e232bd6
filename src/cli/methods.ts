/** `lapidary methods`: every method in a line, by family; of one its paper, what it needs, what runs it, its options. */

import { Command } from 'commander';
import type { FormatAnswer, MethodDescription } from '../formats/describe.ts';
import { defaultOf, describeMethod, formatsOf, rangeOf } from '../formats/describe.ts';
import { findMethod, methods } from '../methods/index.ts';
import { openForCompression } from '../open.ts';
import type { OptionInfo } from '../recipe/options.ts';
import { flagOf } from '../recipe/options.ts';
import { jsonOption, print } from './common.ts';

/** Of text in paragraphs. */
const width = 80;
/** Of a line that is not broken: as wide as the terminal. */
const lineWidth = (): number => Math.max(width, Math.min(process.stdout.columns ?? 100, 120));

export function command(): Command {
  return new Command('methods')
    .summary('what every method is, what it needs, and its options')
    .description(
      'Lists the methods that --method and recipes name; with a name, one of them: paper, options, what runs its results.',
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
    .action(async (name: string | undefined, { json }: { readonly json?: boolean }) => {
      if (name === undefined) {
        const all = methods.map(describeMethod);
        return print(json ? JSON.stringify({ methods: all }) : listed(all));
      }
      const method = findMethod(name);
      const described = describeMethod(method);
      // What a format holds depends on sizes; those of the model that ships suit all.
      const formats = await formatsOf(method, await openForCompression(undefined));
      print(json ? JSON.stringify({ ...described, formats }) : inFull(described, formats));
    });
}

/** Methods under a heading for each family and what its methods do in a recipe. */
function listed(all: readonly MethodDescription[]): string {
  const groups = new Map<string, MethodDescription[]>();
  for (const each of all) {
    const heading = `${each.family}: ${each.kind}`;
    groups.set(heading, [...(groups.get(heading) ?? []), each]);
  }
  const longest = Math.max(...all.map(({ name }) => name.length));
  const line = ({ name, summary, needs }: MethodDescription) => {
    const start = `  ${name.padEnd(longest)}  ${needs.startsWith('calibration') ? 'text' : '    '}  `;
    return start + inShort(summary, lineWidth() - start.length);
  };
  return [
    ...[...groups].map(([heading, own]) => [heading, ...own.map(line)].join('\n')),
    'text: needs calibration text. Papers, options, what runs it: lapidary methods NAME',
  ].join('\n\n');
}

/** What a summary says that it does, as far as it fits. */
function inShort(summary: string, most: number): string {
  const whole = summary.replace(/\s*\([^)]*arXiv[^)]*\)/g, '').replace(/[.]$/, '');
  const said = whole.replace(/^[^:]{1,40}: /, '');
  return said.length <= most ? said : `${said.slice(0, said.lastIndexOf(' ', most - 2))} …`;
}

function inFull(described: MethodDescription, formats: readonly FormatAnswer[]): string {
  const { name, family, kind, summary, papers, needs, statistic, options, example } = described;
  const own = options.map((option) => `  ${signature(option)}\n${wrapped(option.help, 6)}`);
  return [
    wrapped(`${name}: ${summary}`, 0),
    '',
    `Family: ${family}; ${kind}.`,
    ...papers.map((paper) => `Paper: ${paper}`),
    wrapped(`Needs: ${needs}.${statistic === undefined ? '' : ` Computes ${statistic}.`}`, 0),
    '',
    'What runs its results:',
    ...formats.map(({ format, label, engines, refused }) => {
      const runs = engines.length > 0 ? `${label} (--for ${engines.join(', ')})` : label;
      return wrapped(`${format}: ${refused === undefined ? runs : `no: ${refused}`}`, 2);
    }),
    '',
    ...(own.length > 0 ? ['Options:', ...own] : ['It has no options.']),
    '',
    'Example:',
    `  ${example}`,
  ].join('\n');
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

/** In lines that fit. */
function wrapped(text: string, indent: number): string {
  const lines = [''];
  for (const word of text.split(' ')) {
    const longer = `${lines.at(-1)}${lines.at(-1) ? ' ' : ''}${word}`;
    if (indent + longer.length <= width || lines.at(-1) === '') lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines.map((line) => `${' '.repeat(indent)}${line}`).join('\n');
}
