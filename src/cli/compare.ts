/** `lapidary compare`: several models on the same text, side by side; the first is what the others are held to. */

import { basename } from 'node:path';
import { Command, type Option } from 'commander';
import type { Measurement } from '../measure.ts';
import { measure } from '../measure.ts';
import {
  dataOptions,
  deviceOption,
  jsonOption,
  print,
  seedOption,
  threadsOption,
  withProgress,
} from './common.ts';
import { formatBytes, interval, table } from './table.ts';

interface Flags {
  readonly data: string;
  readonly against?: string;
  readonly device: 'cpu' | 'webgpu';
  readonly threads?: number;
  readonly seed: number;
  readonly json?: boolean;
}

export function command(): Command {
  const result = new Command('compare')
    .summary('several models on the same text, in one table')
    .description(
      'Measures models on the same text. KL divergence and agreement are against the first, or --against.',
    )
    .argument('<models...>', 'folders, hub ids, or .onnx files')
    .requiredOption('--data <file>', 'text, JSONL or Parquet; every document is BOS and its tokens')
    .option('--against <original>', 'what divergence is measured from (default: the first model)');
  for (const option of [...dataOptions(), deviceOption(), threadsOption(), seedOption(), jsonOption()])
    result.addOption(option as Option);
  return result
    .addHelpText(
      'after',
      `
Example:
  lapidary compare ./my-model ./my-model-gptq-4bit ./my-model-rtn-4bit --data test.txt`,
    )
    .action(
      async (
        models: readonly string[],
        { device, threads, against = models[0]!, json, ...options }: Flags,
      ) => {
        const session = { device, ...(threads ? { threads } : {}) };
        const rows = await withProgress(async (work) => {
          const measured: (Measurement & { model: string })[] = [];
          for (const model of models)
            measured.push({ model, ...(await measure(model, { ...options, ...work, session, against })) });
          return measured;
        });
        print(json ? JSON.stringify({ against, models: rows }) : describe(rows));
      },
    );
}

function describe(rows: readonly (Measurement & { readonly model: string })[]): string {
  const header = ['model', 'bytes', 'bits a weight', 'perplexity', 'KL', 'same top token'];
  const body = rows.map((row) => [
    basename(row.model),
    formatBytes(row.bytes),
    row.bitsPerWeight.toFixed(2),
    interval(row.perplexity, 3),
    row.kl ? interval({ value: row.kl.mean, ...row.kl }, 5) : '',
    row.agreement ? interval(row.agreement, 4) : '',
  ]);
  return table(header, body);
}
