/** `lapidary methods`: what every method is, what it needs, and its options. */

import { Command } from 'commander';
import type { Method } from '../methods/contract.ts';
import { findMethod, methods } from '../methods/index.ts';
import type { OptionInfo } from '../options.ts';
import { describeOptions } from '../options.ts';
import { stepNeedsText } from '../prepare.ts';
import { compresses } from '../recipe.ts';
import { jsonOption, print } from './common.ts';
import { flagOf } from './recipe.ts';

interface Described {
  readonly name: string;
  readonly kind: string;
  readonly summary: string;
  readonly needs: string;
  readonly options: readonly OptionInfo[];
}

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
      const all = name === undefined ? methods.map(describe) : [describe(findMethod(name))];
      if (json) return print(JSON.stringify(name === undefined ? { methods: all } : all[0]));
      print(name === undefined ? listed(all) : inFull(all[0]!));
    });
}

const kinds = {
  compressor: 'compresses matrices',
  rewrite: 'rewrites the model first, so that it compresses better: awq+gptq',
  training: 'trains what is compressed: gptq+block-ap',
};

function describe(method: Method): Described {
  const kind = compresses(method) ? 'compressor' : method.shape === 'rewrite' ? 'rewrite' : 'training';
  const { name, summary, options } = method;
  return { name, kind: kinds[kind], summary, needs: needsOf(method), options: describeOptions(options) };
}

function needsOf(method: Method): string {
  const options = method.options.parse({}) as Readonly<Record<string, unknown>>;
  if (method.shape === 'train') return 'calibration text; trains by gradient';
  if (!stepNeedsText({ method, options })) return 'no text';
  const squares = method.shape === 'linear' && method.bySquares;
  const without = describeOptions(method.options).flatMap(({ name, choices = [] }) =>
    choices
      .filter((choice) => !stepNeedsText({ method, options: { ...options, [name]: choice } }))
      .map((choice) => `--${flagOf(name)} ${choice}`),
  );
  return [
    'calibration text',
    ...(squares ? ['or an importance matrix (--imatrix)'] : []),
    ...(without.length > 0 ? [`or none with ${without.join(', ')}`] : []),
  ].join(', ');
}

function listed(all: readonly Described[]): string {
  const groups = Object.values(kinds).map((kind) => {
    const own = all.filter((each) => each.kind === kind);
    return [`${kind[0]!.toUpperCase()}${kind.slice(1)}`, ...own.map(inShort)].join('\n\n');
  });
  return [...groups, 'Options of one: lapidary methods NAME'].join('\n\n');
}

const inShort = ({ name, summary, needs }: Described): string =>
  `  ${name}\n${wrapped(summary, 4)}\n${wrapped(`Needs ${needs}.`, 4)}`;

function inFull({ name, kind, summary, needs, options }: Described): string {
  const head = [wrapped(`${name}: ${summary}`, 0), wrapped(`Kind: ${kind}.`, 0), `Needs: ${needs}.`];
  const own = options.map((option) => `  ${signature(option)}\n${wrapped(option.help, 6)}`);
  return [...head, ...(own.length > 0 ? ['', 'Options:', ...own] : ['', 'It has no options.'])].join('\n');
}

/** "--bits <number>, 2 to 8 (default: 4)" */
function signature({ name, type, choices, minimum, maximum, default: standard }: OptionInfo): string {
  const flag = flagOf(name);
  const given =
    type === 'boolean'
      ? standard === true
        ? `--no-${flag}`
        : `--${flag}`
      : `--${flag} <${type === 'number' ? 'number' : 'name'}>`;
  const bounds = [
    ...(minimum === undefined ? [] : [`from ${minimum}`]),
    ...(maximum === undefined || maximum >= Number.MAX_SAFE_INTEGER ? [] : [`to ${maximum}`]),
  ];
  const may = choices ? choices.join(', ') : bounds.join(' ');
  const otherwise =
    standard === undefined ? '' : ` (default: ${type === 'boolean' ? (standard ? 'on' : 'off') : standard})`;
  return `${given}${may ? `: ${may}` : ''}${otherwise}`;
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
