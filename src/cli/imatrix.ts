/** `lapidary imatrix`: an importance matrix for llama.cpp's quantizer, or for ours. */

import { Command, Option } from 'commander';
import { shellWord } from '../base/shell.ts';
import type { WrittenImatrix } from '../run/imatrix.ts';
import { imatrix } from '../run/imatrix.ts';
import type { RunFlags } from './common.ts';
import { positiveNumber, print, runOptions, withProgress } from './common.ts';

interface Flags extends RunFlags {
  readonly data: string;
  readonly out: string;
  readonly outputFormat?: 'gguf' | 'dat';
  readonly overwrite?: boolean;
  readonly chunkSize?: number;
  readonly chunks?: number;
  readonly processOutput?: boolean;
  readonly separator?: string;
  readonly field?: string;
  readonly revision?: string;
}

export function command(): Command {
  const result = new Command('imatrix')
    .summary('collect an importance matrix for GGUF, as llama-imatrix does')
    .description(
      'Runs a text through a model and writes the sums of squared inputs of every linear layer: the importance matrix that llama-quantize and `lapidary compress --imatrix` round by.',
    )
    .argument('<model>', 'folder, hub id or .gguf file')
    .requiredOption('--data <file>', 'text, JSONL or Parquet, like what the model will read')
    .option('--out <file>', 'the file to write', 'imatrix.gguf')
    .addOption(
      new Option(
        '--output-format <name>',
        'gguf, or dat: the older form (default: by the name of the file)',
      ).choices(['gguf', 'dat']),
    )
    .option('--overwrite', 'replace a file that is there')
    .option('--chunk-size <tokens>', 'tokens of a chunk (default: 512, or the context)', positiveNumber)
    .option('--chunks <number>', 'chunks at most (default: all)', positiveNumber)
    .option('--process-output', 'collect for the output matrix, too (of a tied one: the embedding)')
    .option('--separator <text>', 'what stands between the documents of a text file')
    .option('--field <name>', 'field of JSONL or column of Parquet (default: "text")')
    .option('--revision <name>', 'branch, tag or commit of a hub id');
  for (const option of runOptions()) if (option.attributeName() !== 'seed') result.addOption(option);
  return result
    .addHelpText(
      'after',
      `
Examples:
  lapidary imatrix ./my-model --data text.txt
  lapidary imatrix model.gguf --data text.jsonl --chunks 100 --out imatrix.dat
  lapidary compress ./my-model --format gguf --type Q4_K_M --imatrix imatrix.gguf
  llama-quantize --imatrix imatrix.gguf model-f16.gguf model-q4.gguf Q4_K_M`,
    )
    .action(async (model: string, flags: Flags) => {
      const { outputFormat: form, ...options } = flags;
      const written = await withProgress((work) => imatrix(model, { ...options, ...work, form }));
      print(flags.json ? JSON.stringify(written) : describe(model, written));
    });
}

function describe(model: string, { out, entries, chunks, chunkSize }: WrittenImatrix): string {
  return [
    `${out}: ${entries} weights, ${chunks} chunks of ${chunkSize} tokens.`,
    '',
    'Next:',
    `  npx lapidary compress ${shellWord(model)} --format gguf --type Q4_K_M --imatrix ${shellWord(out)}`,
  ].join('\n');
}
