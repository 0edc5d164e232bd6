/**
 * The model card: README.md of a compressed model, as hubs read it (YAML front matter) and people do (what it is,
 * what was lost, how to load it, how to make it again). A pure function of plain data: it measures nothing, and a
 * number that was not measured has no row.
 */

import { stringify } from 'yaml';
import { interval } from './interval.ts';
import type { ReportData } from './schema.ts';
import type { Estimate } from '../evaluate/evaluate.ts';
import type { Speed } from '../evaluate/speed.ts';
import { isSlower } from '../evaluate/pace.ts';
import type { Origin } from '../io/origin.ts';
import type { CardFormat } from './card-format.ts';
import type { Measures } from './report.ts';

/** A written file, and how far what it computes is from the model in memory, in every engine that loaded it. */
export interface CardFile {
  /** Path in the folder: "onnx/model_q4.onnx". */
  readonly path: string;
  /** As its users name it: "q4", "Q4_K_M". */
  readonly type: string;
  /** With its external data. */
  readonly bytes: number;
  readonly checks: readonly { readonly engine: string; readonly maxDifference: number }[];
}

export interface CardResult {
  /** Heads its column: "compressed"; of several "q4", "q8". */
  readonly name: string;
  /** What was done in one line: "GPTQ, 4 bits, groups of 32". */
  readonly summary: string;
  /** Sentences that a reader must know: "Three-bit weights are stored in four bits." */
  readonly notes: readonly string[];
  readonly files: readonly CardFile[];
  /** A missing field was not measured. */
  readonly after: Measures;
  /** What original and result wrote behind the same prompts. */
  readonly answers: NonNullable<ReportData['answers']>;
  /** The whole recipe, as YAML, and the file that it is in. */
  readonly recipe: { readonly name: string; readonly text: string };
  readonly command: string;
}

export interface CardData {
  /** Title: the folder's name. */
  readonly name: string;
  /** Of the original: what it is called, and what it says of itself. */
  readonly original: { readonly name: string } & Origin;
  readonly modelType: string;
  readonly format: CardFormat;
  /** Of the original; a missing field was not measured. */
  readonly before: Measures;
  /** One, or one for each type in the folder; the first is what engines load where nobody says which. */
  readonly results: readonly CardResult[];
  /** What the losses were measured on. */
  readonly evaluation?: { readonly data: string; readonly tokens: number } | undefined;
  /** The file with plots. */
  readonly report: string;
  /** What words in capitals stand for in the command that makes it again; "" where it has none. */
  readonly placeholders: string;
  /** What it takes to make it again besides the command: versions, seed, hashes, machine; in this order. */
  readonly reproduction: readonly (readonly [what: string, value: string])[];
}

/** The card as Markdown; the same data gives the same bytes. */
export function modelCard(data: CardData): string {
  const { before, results, evaluation, report } = data;
  return [
    frontMatter(data),
    `# ${data.name}`,
    introduction(data),
    '## What it costs and what was lost',
    table(['', 'original', ...results.map(({ name }) => name)], measurementRows(before, results)),
    ...(evaluation ? [evaluationNote(evaluation, results[0]!.after)] : []),
    `${evaluation ? 'Where it was lost, with plots' : 'What became of each tensor'}: [${report}](${report}).`,
    ...answersSection(results),
    '## Files',
    table(
      ['file', 'type', 'size', 'loaded by', 'largest difference of a logit'],
      results
        .flatMap(({ files }) => files)
        .flatMap(({ path, type, bytes, checks }) =>
          checks.map(({ engine, maxDifference }) => [
            `\`${path}\``,
            type,
            megabytes(bytes),
            engine,
            maxDifference.toExponential(1),
          ]),
        ),
    ),
    'Each file was loaded again after it was written, and its logits were compared with the model in memory.',
    '## Use',
    ...data.format.usage.flatMap(({ title, language, code }) => [title, fence(language, code)]),
    ...othersNote(results),
    ...again(data),
  ]
    .join('\n\n')
    .concat('\n');
}

function othersNote(results: CardData['results']): string[] {
  const [first, ...others] = results.map(({ name }) => `\`${name}\``);
  return others.length === 0
    ? []
    : [`The other types are used the same way: ${others.join(', ')} in place of ${first}.`];
}

function again({ results, reproduction, placeholders }: CardData): string[] {
  const commands = results.map(({ name, command }) => [
    results.length === 1 ? 'command' : `command for ${name}`,
    `\`${command}\``,
  ]);
  return [
    '## Make it again',
    table(['', ''], [...commands, ...reproduction.map(([what, value]) => [what, `\`${value}\``])]),
    ...(placeholders ? [placeholders] : []),
    ...results.flatMap(({ recipe: { name, text } }, index) => [
      `${index === 0 ? 'The same recipe gives the same bytes; ' : ''}\`${name}\`:`,
      fence('yaml', text.trimEnd()),
    ]),
  ];
}

/** Where all were asked the same. */
function answersSection(results: CardData['results']): string[] {
  const { answers } = results[0]!;
  const asked = results.filter((result) => result.answers.length === answers.length);
  if (answers.length === 0) return [];
  const rows = answers.map(({ prompt, original }, index) =>
    [prompt, original, ...asked.map((result) => result.answers[index]!.compressed)].map(inline),
  );
  return [
    '## What it answers',
    table(['prompt', 'original', ...asked.map(({ name }) => name)], rows),
    `Each token the most likely one, 40 at most${answers[0]!.engine ? `, in ${answers[0]!.engine}` : ''}.`,
  ];
}

/** A text in a cell, as it stands: no markup, on one line. */
const inline = (text: string) =>
  text
    .trim()
    .replace(/\s+/g, ' ')
    .replace(/[\\`*_{}[\]<>#~]/g, '\\$&');

function frontMatter(data: CardData): string {
  const { license, licenseName, licenseLink, baseModel } = data.original;
  const fields = {
    ...(license ? { license } : {}),
    ...(licenseName ? { license_name: licenseName } : {}),
    ...(licenseLink ? { license_link: licenseLink } : {}),
    ...(baseModel ? { base_model: baseModel } : {}),
    // Hubs have a word for fewer bits a weight, and none for fewer weights.
    ...(baseModel && data.results.some(({ after }) => after.bitsPerWeight < data.before.bitsPerWeight)
      ? { base_model_relation: 'quantized' }
      : {}),
    ...(data.format.library ? { library_name: data.format.library } : {}),
    pipeline_tag: 'text-generation',
    tags: ['lapidary', ...data.format.tags, data.modelType],
  };
  return `---\n${stringify(fields)}---`;
}

function introduction({ original: { name, baseModel }, results }: CardData): string {
  const base = baseModel ? `[${baseModel}](https://huggingface.co/${baseModel})` : `\`${name}\``;
  const [first, ...others] = results as readonly [CardResult, ...CardResult[]];
  const listed = (lines: readonly string[]) =>
    lines.length > 0 ? ['', ...lines.map((line) => `- ${line}`)] : [];
  if (others.length === 0)
    return [`${base}, compressed with Lapidary: ${first.summary}.`, ...listed(first.notes)].join('\n');
  const shared = first.notes.filter((note) => others.every(({ notes }) => notes.includes(note)));
  const own = results.flatMap(({ name, summary, notes }) => [
    `${name}: ${summary}.`,
    ...notes.filter((note) => !shared.includes(note)).map((note) => `${name}: ${note}`),
  ]);
  return [
    `${base}, compressed with Lapidary to ${results.length} types, side by side:`,
    ...listed([...own, ...shared]),
  ].join('\n');
}

function measurementRows(before: Measures, results: CardData['results']): string[][] {
  const all = [before, ...results.map(({ after }) => after)];
  const row = (name: string, show: (measured: Measures) => string | undefined): string[][] => {
    const cells = all.map(show);
    return cells.every((cell) => cell === undefined) ? [] : [[name, ...cells.map((cell) => cell ?? '')]];
  };
  const rate = (kind: keyof Speed) => (m: Measures) => {
    const slower = m !== before && before.speed && m.speed && isSlower(m.speed[kind], before.speed[kind]);
    return m.speed && `${m.speed[kind].toFixed(0)}${slower ? ' (slower)' : ''}`;
  };
  return [
    ...row(
      'size of the weights',
      (m) => `${megabytes(m.bytes)}${m !== before && m.bytes > before.bytes ? ' (larger)' : ''}`,
    ),
    ...row('bits a weight', (m) => m.bitsPerWeight.toFixed(2)),
    ...row('perplexity', (m) => m.perplexity && interval(m.perplexity, 3)),
    ...row('bits a character', (m) => m.bitsPerCharacter && interval(m.bitsPerCharacter, 4)),
    ...row('KL divergence to the original, mean', (m) => m.kl && interval({ ...m.kl, value: m.kl.mean }, 5)),
    ...row('KL divergence, median and 99th percentile', (m) =>
      m.kl ? `${m.kl.median.toFixed(5)}, ${m.kl.p99.toFixed(5)}` : undefined,
    ),
    ...row('same most likely token', (m) => m.agreement && percent(m.agreement)),
    ...row('prompt, tokens a second', rate('prefillTokensPerSecond')),
    ...row('generation, tokens a second', rate('decodeTokensPerSecond')),
  ];
}

function evaluationNote(
  { data, tokens }: NonNullable<CardData['evaluation']>,
  { perplexity }: Measures,
): string {
  const sure =
    perplexity?.low === undefined
      ? 'One sequence has no intervals.'
      : 'Brackets: 95% interval, bootstrap over sequences.';
  return `Measured on ${data}: ${tokens.toLocaleString('en')} predicted tokens. ${sure}`;
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}

/** A fence longer than any run of backticks inside. */
function fence(language: string, code: string): string {
  const longest = Math.max(2, ...[...code.matchAll(/`+/g)].map((run) => run[0].length));
  const ticks = '`'.repeat(longest + 1);
  return `${ticks}${language}\n${code}\n${ticks}`;
}

const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(2)} MB`;
function percent({ value, low, high }: Estimate): string {
  const shown = `${(100 * value).toFixed(2)}%`;
  if (low === undefined || high === undefined) return shown;
  return `${shown} [${(100 * low).toFixed(2)}, ${(100 * high).toFixed(2)}]`;
}
