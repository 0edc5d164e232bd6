/** `lapidary report`: the runs of several folders as one page to look at, side by side. */

import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { ExitCode, LapidaryError } from '../base/errors.ts';
import { writeFileAtomic } from '../io/output.ts';
import { systemError } from '../io/system-error.ts';
import type { ReportData } from '../report/data.ts';
import { parseReport } from '../report/data.ts';
import { recipesIn, reportsIn } from '../report/files.ts';
import { isOurPage, reportHtml } from '../report/html.ts';
import { interval } from '../report/interval.ts';
import { jsonOption, print } from './common.ts';
import { formatBytes, table } from './table.ts';

interface Flags {
  readonly out: string;
  readonly overwrite?: boolean;
  readonly json?: boolean;
}

export function command(): Command {
  return new Command('report')
    .summary('runs side by side, as one page to look at')
    .description(
      'Writes one HTML file that compares what compress runs saved and lost, with the page of each. It needs no network.',
    )
    .argument('<runs...>', 'folders that compress wrote, or their report.json')
    .option('--out <file>', 'the page to write', 'report.html')
    .option('--overwrite', 'replace a file that Lapidary did not write')
    .addOption(jsonOption())
    .addHelpText(
      'after',
      `
Examples:
  lapidary report ./my-model-onnx-gptq-4bit-g32 ./my-model-gguf-ggml-Q4_K_M ./my-model-onnx-rtn-4bit-g32
  lapidary report ./runs/*/report.json --out comparison.html`,
    )
    .action((runs: readonly string[], { out, overwrite = false, json }: Flags) => {
      const reports = runs.flatMap(readReports);
      const page = reportHtml(reports);
      checkReplaceable(out, overwrite);
      writeFileAtomic(out, new TextEncoder().encode(page));
      print(json ? JSON.stringify({ out, runs: reports.map(figuresOf) }) : describe(reports, out));
    });
}

/** @param run a folder, which may have several types, or its report.json */
function readReports(run: string): ReportData[] {
  const isFolder = existsSync(run) && statSync(run).isDirectory();
  const paths = isFolder ? reportsIn(run) : existsSync(run) ? [run] : [];
  if (paths.length === 0) {
    throw new LapidaryError({
      what: isFolder ? 'the folder has no report.json' : 'no such file or folder',
      where: run,
      expected: 'a folder that lapidary compress wrote, or its report.json',
      fix: isFolder ? insteadOf(run) : 'check the path',
    });
  }
  return paths.map(readReport);
}

function readReport(path: string): ReportData {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw systemError(cause, path);
  }
  return parseReport(text, path);
}

/** What to name instead of a folder that is no run: those in it, or what becomes one. */
function insteadOf(folder: string): string {
  const runs = readdirSync(folder)
    .filter((name) => statSync(join(folder, name)).isDirectory() && reportsIn(join(folder, name)).length > 0)
    .map((name) => join(folder, name));
  if (runs.length > 0) return `name the runs in it: ${runs.slice(0, 8).join(' ')}`;
  if (recipesIn(folder).length > 0) return 'compress again with this version, which writes one';
  return 'name the folder of a run, as lapidary compress says at its end';
}

function checkReplaceable(out: string, overwrite: boolean): void {
  if (overwrite || !existsSync(out) || !statSync(out).isFile()) return;
  if (isOurPage(readFileSync(out, 'utf8'))) return;
  throw new LapidaryError(
    {
      what: 'a file that Lapidary did not write is in the way',
      where: out,
      fix: 'choose another name with --out, or say --overwrite',
    },
    ExitCode.usage,
  );
}

function figuresOf({ name, model, target, original, compressed }: ReportData) {
  return { name, model, target, original, compressed };
}

function describe(reports: readonly ReportData[], out: string): string {
  const rows = reports.map(({ name, original, compressed }) => [
    name,
    formatBytes(compressed.bytes),
    compressed.bytes > original.bytes
      ? `${(compressed.bytes / original.bytes).toFixed(2)}× larger`
      : `${(original.bytes / compressed.bytes).toFixed(2)}× smaller`,
    compressed.bitsPerWeight.toFixed(2),
    compressed.perplexity ? interval(compressed.perplexity, 3) : '–',
    compressed.kl ? interval({ value: compressed.kl.mean, ...compressed.kl }, 5) : '–',
  ]);
  const header = ['run', 'bytes', 'size', 'bits a weight', 'perplexity', 'KL'];
  return [table(header, rows), '', `Written: ${out}`].join('\n');
}
