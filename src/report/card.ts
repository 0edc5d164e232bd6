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

export interface CardData {
  /** Title: the folder's name. */
  readonly name: string;
  /** Of the original: what it is called, and what it says of itself. */
  readonly original: { readonly name: string } & Origin;
  readonly modelType: string;
  readonly format: CardFormat;
  /** What was done in one line: "GPTQ, 4 bits, groups of 32". */
  readonly summary: string;
  /** Sentences that a reader must know: "Three-bit weights are stored in four bits." */
  readonly notes: readonly string[];
  readonly files: readonly CardFile[];
  /** A missing field was not measured. */
  readonly before: Measures;
  readonly after: Measures;
  /** What the losses were measured on. */
  readonly evaluation?: { readonly data: string; readonly tokens: number } | undefined;
  /** What both wrote behind the same prompts. */
  readonly answers?: ReportData['answers'];
  /** The file with plots. */
  readonly report: string;
  /** The whole recipe, as YAML. */
  readonly recipe: string;
  /** What words in capitals stand for in the command that makes it again; "" where it has none. */
  readonly placeholders: string;
  /** What it takes to make it again: command, versions, seed, hashes, machine; in this order. */
  readonly reproduction: readonly (readonly [what: string, value: string])[];
}

/** The card as Markdown; the same data gives the same bytes. */
export function modelCard(data: CardData): string {
  return [
    frontMatter(data),
    `# ${data.name}`,
    introduction(data),
    '## What it costs and what was lost',
    table(['', 'original', 'compressed'], measurementRows(data.before, data.after)),
    ...(data.evaluation ? [evaluationNote(data.evaluation, data.after)] : []),
    `${data.evaluation ? 'Where it was lost, with plots' : 'What became of each tensor'}: [${data.report}](${data.report}).`,
    ...answersSection(data.answers ?? []),
    '## Files',
    table(
      ['file', 'type', 'size', 'loaded by', 'largest difference of a logit'],
      data.files.flatMap(({ path, type, bytes, checks }) =>
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
    '## Make it again',
    table(
      ['', ''],
      data.reproduction.map(([what, value]) => [what, `\`${value}\``]),
    ),
    ...(data.placeholders ? [data.placeholders] : []),
    'The same recipe gives the same bytes; `recipe.yaml`:',
    fence('yaml', data.recipe.trimEnd()),
  ]
    .join('\n\n')
    .concat('\n');
}

function answersSection(answers: NonNullable<CardData['answers']>): string[] {
  if (answers.length === 0) return [];
  const rows = answers.map(({ prompt, original, compressed }) => [prompt, original, compressed].map(inline));
  return [
    '## What it answers',
    table(['prompt', 'original', 'compressed'], rows),
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
    ...(baseModel && data.after.bitsPerWeight < data.before.bitsPerWeight
      ? { base_model_relation: 'quantized' }
      : {}),
    ...(data.format.library ? { library_name: data.format.library } : {}),
    pipeline_tag: 'text-generation',
    tags: ['lapidary', ...data.format.tags, data.modelType],
  };
  return `---\n${stringify(fields)}---`;
}

function introduction(data: CardData): string {
  const { name, baseModel } = data.original;
  const base = baseModel ? `[${baseModel}](https://huggingface.co/${baseModel})` : `\`${name}\``;
  const notes = data.notes.map((note) => `- ${note}`);
  return [
    `${base}, compressed with Lapidary: ${data.summary}.`,
    ...(notes.length ? ['', ...notes] : []),
  ].join('\n');
}

function measurementRows(before: Measures, after: Measures): string[][] {
  const row = (name: string, show: (measured: Measures) => string | undefined): string[][] => {
    const cells = [show(before), show(after)];
    return cells.every((cell) => cell === undefined) ? [] : [[name, ...cells.map((cell) => cell ?? '')]];
  };
  const rate = (kind: keyof Speed) => (m: Measures) => {
    const slower = m === after && before.speed && m.speed && isSlower(m.speed[kind], before.speed[kind]);
    return m.speed && `${m.speed[kind].toFixed(0)}${slower ? ' (slower)' : ''}`;
  };
  return [
    ...row(
      'size of the weights',
      (m) => `${megabytes(m.bytes)}${m === after && m.bytes > before.bytes ? ' (larger)' : ''}`,
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
