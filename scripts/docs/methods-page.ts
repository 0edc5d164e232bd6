/** The text of docs/methods.md. */

import type { FormatAnswer, MethodDescription } from '../../src/formats/describe.ts';
import { defaultOf, describeMethod, formatsOf, rangeOf } from '../../src/formats/describe.ts';
import { families } from '../../src/methods/index.ts';
import { openForCompression } from '../../src/open.ts';
import type { OptionInfo } from '../../src/recipe/options.ts';
import { flagOf } from '../../src/recipe/options.ts';

/** Formats are asked about the model that ships with the package. */
export async function methodsPage(): Promise<string> {
  const model = await openForCompression(undefined, {});
  const parts = [
    '<!-- Written by `npx tsx scripts/docs/methods.ts` from the methods themselves: change them, not this page. -->',
    '# Methods',
    'What `lapidary methods NAME` shows on the terminal, for all methods. Defaults are those of the method by itself; ' +
      'formats and `--for` may set others, which a run says and `recipe.yaml` keeps. Figures are in ' +
      '[benchmarks.md](benchmarks.md), the engines in [engines/](engines/README.md).',
  ];
  for (const { title, methods } of families) {
    const all = methods.map(describeMethod);
    parts.push(`## ${title}`, overview(all));
    for (const [index, method] of methods.entries())
      parts.push(section(all[index]!, await formatsOf(method, model)));
  }
  return `${parts.join('\n\n')}\n`;
}

function overview(all: readonly MethodDescription[]): string {
  const kinds = [...new Set(all.map(({ kind }) => kind))];
  const groups = kinds.map((kind) => {
    const rows = all.filter((each) => each.kind === kind);
    const lines = rows.map(({ name, summary }) => `- [${name}](#${name}): ${linked(summary)}`);
    return [`What ${kind}:`, lines.join('\n')].join('\n\n');
  });
  return groups.join('\n\n');
}

function section(method: MethodDescription, answers: readonly FormatAnswer[]): string {
  const { name, summary, needs, statistic, options, example } = method;
  return [
    `### ${name}`,
    linked(summary),
    [`- Needs ${needs}.`, ...(statistic ? [`- Collects ${statistic}.`] : []), `- ${runs(answers)}`].join(
      '\n',
    ),
    ['```sh', `npx ${example}`, '```'].join('\n'),
    options.length > 0 ? table(options) : 'It has no options.',
  ].join('\n\n');
}

/** Which formats hold what it makes, and so what runs it. */
function runs(answers: readonly FormatAnswer[]): string {
  const name = ({ format, engines }: FormatAnswer) =>
    engines.length > 0 ? `${format} (${engines.join(', ')})` : format;
  const held = answers.filter(({ refused }) => refused === undefined).map(name);
  const others = answers.filter(({ refused }) => refused !== undefined).map(({ format }) => format);
  const rest = others.length > 0 ? ` By its defaults not: ${others.join(', ')}.` : '';
  return `Written as ${held.join('; ')}.${rest}`;
}

function table(options: readonly OptionInfo[]): string {
  const rows = options.map((option) => [
    `\`${option.name}\``,
    `\`--${option.type === 'boolean' && option.default === true ? 'no-' : ''}${flagOf(option.name)}\``,
    rangeOf(option) || option.type,
    defaultOf(option),
    option.help,
  ]);
  const lines = [
    ['option', 'flag', 'values', 'default', 'what it does'],
    ['---', '---', '---', '---', '---'],
    ...rows,
  ];
  return lines
    .map((cells) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`)
    .join('\n');
}

/** Papers as links. */
const linked = (text: string): string =>
  text.replace(/arXiv:(\d{4}\.\d{4,5})/g, '[arXiv:$1](https://arxiv.org/abs/$1)');
