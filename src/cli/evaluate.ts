/** `lapidary evaluate`: what a model costs, how well it predicts a text, how far it is from its original. */

import { Command } from 'commander';
import type { Measurement } from '../measure/measure.ts';
import { measure } from '../measure/measure.ts';
import type { RunFlags } from './common.ts';
import { dataOptions, print, runOptions, withProgress } from './common.ts';
import { interval } from '../report/interval.ts';
import { formatBytes, formatCount, table } from './table.ts';

interface Flags extends RunFlags {
  readonly data: string;
  readonly against?: string;
  readonly separator?: string;
  readonly field?: string;
  readonly documents?: number;
  readonly length?: number;
  readonly revision?: string;
}

export function command(): Command {
  const result = new Command('evaluate')
    .summary('measure a model on a text, and against its original')
    .description('Measures a checkpoint, an exported folder, or one GGUF or ONNX file on a text.')
    .argument('<model>', 'folder, hub id, .gguf or .onnx file')
    .requiredOption(
      '--data <file>',
      'text, JSON, CSV or Parquet; every document is BOS and its tokens, a single one is cut into windows',
    )
    .option('--against <original>', 'the original: adds the perplexity ratio, KL divergence and agreement')
    .option('--revision <name>', 'branch, tag or commit of a hub id');
  for (const option of [...dataOptions(), ...runOptions()]) result.addOption(option);
  return result
    .addHelpText(
      'after',
      `
Examples:
  lapidary evaluate ./my-model --data test.txt --separator "<|endoftext|>" --documents 40
  lapidary evaluate ./my-model-onnx-gptq-4bit-g32 --against ./my-model --data test.jsonl --json`,
    )
    .action(async (model: string, flags: Flags) => {
      const measured = await withProgress((work) => measure(model, { ...flags, ...work }));
      print(flags.json ? JSON.stringify(measured) : describe(measured));
    });
}

function describe(measured: Measurement): string {
  const rows = [
    ['tokens predicted', String(measured.tokens)],
    ['nats a token', measured.nats.toFixed(4)],
    ['perplexity', interval(measured.perplexity, 3)],
    ['bits a character', interval(measured.bitsPerCharacter, 4)],
  ];
  const { kl, agreement, original, perplexityRatio } = measured;
  if (original) rows.push(['perplexity of the original', interval(original.perplexity, 3)]);
  if (perplexityRatio) rows.push(['perplexity over the original’s', interval(perplexityRatio, 4)]);
  if (kl) {
    rows.push(['KL divergence, nats a token', interval({ value: kl.mean, ...kl }, 5)]);
    rows.push(['KL median, 99th percentile', `${kl.median.toFixed(5)}, ${kl.p99.toFixed(4)}`]);
  }
  if (agreement) rows.push(['same top token', interval(agreement, 4)]);
  rows.push(
    ['bytes', formatBytes(measured.bytes)],
    ['parameters', formatCount(measured.parameters)],
    ['bits a weight', measured.bitsPerWeight.toFixed(2)],
    ['multiply-adds a token', formatCount(measured.multiplyAdds)],
  );
  return table(['', measured.perplexity.low === undefined ? 'value' : 'value [95% interval]'], rows);
}
