/** `lapidary compare`: several models on the same text, side by side; the first is what the others are held to. */

import { basename } from 'node:path';
import { Command } from 'commander';
import type { Comparison } from '../measure/measure.ts';
import { compare } from '../measure/measure.ts';
import type { RunFlags } from './common.ts';
import { dataOptions, print, runOptions, withProgress } from './common.ts';
import { interval } from '../report/interval.ts';
import { formatBytes, table } from './table.ts';

interface Flags extends RunFlags {
  readonly data: string;
  readonly against?: string;
}

export function command(): Command {
  const result = new Command('compare')
    .summary('several models on the same text, in one table')
    .description(
      'Measures models on the same text. The ratio of perplexities, KL divergence and agreement are against the first, or --against.',
    )
    .argument('<models...>', 'folders, hub ids, .gguf or .onnx files')
    .requiredOption(
      '--data <file>',
      'text, JSON, CSV or Parquet; every document is BOS and its tokens, a single one is cut into windows',
    )
    .option('--against <original>', 'what divergence is measured from (default: the first model)');
  for (const option of [...dataOptions(), ...runOptions()]) result.addOption(option);
  return result
    .addHelpText(
      'after',
      `
Example:
  lapidary compare ./my-model ./my-model-onnx-gptq-4bit-g32 ./my-model-onnx-rtn-4bit-g32 --data test.txt`,
    )
    .action(async (models: readonly string[], { against = models[0]!, json, ...options }: Flags) => {
      const rows = await withProgress((work) => compare(models, { ...options, ...work, against }));
      print(json ? JSON.stringify({ against, models: rows }) : describe(rows));
    });
}

function describe(rows: readonly Comparison[]): string {
  const header = ['model', 'bytes', 'bits a weight', 'perplexity', 'ratio', 'KL', 'same top token'];
  const names = rows.map(({ model }) => basename(model));
  const body = rows.map((row, index) => [
    names.filter((name) => name === names[index]).length > 1 ? row.model : names[index]!,
    formatBytes(row.bytes),
    row.bitsPerWeight.toFixed(2),
    interval(row.perplexity, 3),
    row.perplexityRatio ? interval(row.perplexityRatio, 4) : '',
    row.kl ? interval({ value: row.kl.mean, ...row.kl }, 5) : '',
    row.agreement ? interval(row.agreement, 4) : '',
  ]);
  return table(header, body);
}
