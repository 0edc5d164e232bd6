/** What a compress run came to, as people read it: what was saved and lost, an answer, and what to do next. */

import { join } from 'node:path';
import { shellWord } from '../base/shell.ts';
import { total } from '../base/total.ts';
import type { Check } from '../export/written.ts';
import { interval } from '../report/interval.ts';
import type { CompressReport, Measures } from '../report/report.ts';
import { storedAs } from '../report/run.ts';
import { examplePrompt } from '../report/use.ts';
import { duration } from './progress.ts';
import { formatBytes, formatCount, table } from './table.ts';

/** @param reports of one original, in one folder: one, or one a type */
export function describeResults(reports: readonly CompressReport[]): string {
  const [{ original, out, chat, file }] = reports as readonly [CompressReport];
  // Of several types in a folder not every engine has a default.
  const written = reports.length > 1 ? join(out, file.path) : out;
  const columns = [original, ...reports.map(({ compressed }) => compressed)];
  const row = (name: string, show: (measures: Measures) => string | undefined) => [
    name,
    ...columns.map((measures) => show(measures) ?? ''),
  ];
  const rows = [
    row('bytes', ({ bytes }) => formatBytes(bytes)),
    row('bits a weight', ({ bitsPerWeight }) => bitsPerWeight.toFixed(2)),
    row('perplexity', ({ perplexity }) => perplexity && interval(perplexity, 3)),
    row(
      'perplexity, times the original',
      ({ perplexityRatio }) => perplexityRatio && interval(perplexityRatio, 4),
    ),
    row('KL divergence, nats', ({ kl }) => kl && interval({ value: kl.mean, ...kl }, 5)),
    row('same top token', ({ agreement }) => agreement && interval(agreement, 4)),
    row('prompt, tokens/s', ({ speed }) => speed?.prefillTokensPerSecond.toFixed(0)),
    row('generation, tokens/s', ({ speed }) => speed?.decodeTokensPerSecond.toFixed(0)),
  ].filter(([, ...cells]) => cells.some((cell) => cell !== ''));
  const heads = reports.map(({ type }) => type ?? 'compressed');
  return [
    table(['', 'original', ...heads], rows),
    '',
    ...reports.flatMap(describeResult),
    '',
    'Next:',
    `  npx lapidary generate ${shellWord(written)} "${examplePrompt(chat)}"${chat ? ' --chat' : ''}`,
  ].join('\n');
}

function describeResult(report: CompressReport): string[] {
  const { original, compressed, file, checks, type } = report;
  const seconds = total(Object.values(report.seconds));
  const { tokens } = compressed;
  const sure =
    compressed.perplexity?.low === undefined
      ? 'one sequence has no intervals'
      : 'brackets: 95% interval over sequences';
  return [
    `${type === undefined ? '' : `${type}: `}${timesSmaller(original.bytes / compressed.bytes)}, ${formatCount(compressed.parameters)} parameters, in ${duration(1000 * seconds)}.`,
    ...checks.map((check) => verified(file.path, check)),
    ...(tokens ? [`Measured on ${tokens.toLocaleString('en')} predicted tokens; ${sure}.`] : []),
    storedAs(report),
    ...example(report),
    ...(report.slower ? [`Note: ${report.slower}`] : []),
    ...report.notes.map((note) => `Note: ${note}`),
  ];
}

/** One of the answers, so that a broken model is seen at once. */
function example({ answers }: CompressReport): string[] {
  const [first] = answers;
  if (!first) return [];
  const line = (text: string) => JSON.stringify(text.trim().slice(0, 160));
  return [
    `Asked ${line(first.prompt)}:`,
    `  original    ${line(first.original)}`,
    `  compressed  ${first.original === first.compressed ? 'the same' : line(first.compressed)}`,
  ];
}

const timesSmaller = (ratio: number): string =>
  ratio < 1 ? `${(1 / ratio).toFixed(2)} times larger` : `${ratio.toFixed(2)} times smaller`;

function verified(path: string, { engine, worst, tolerance }: Check): string {
  const loaded = `Verified: ${path} loaded in ${engine}; its logits`;
  if (worst === 0) return `${loaded} are those of the model in memory.`;
  return `${loaded} differ from the model in memory by ${worst.toPrecision(2)} of their spread at most (allowed: ${tolerance}).`;
}
