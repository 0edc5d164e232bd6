/** `lapidary generate`: text from a model, as it comes. */

import { Command, Option } from 'commander';
import { generate } from '../generate.ts';
import { openModel, shipped } from '../open.ts';
import {
  deviceOption,
  jsonOption,
  print,
  realNumber,
  seedOption,
  threadsOption,
  wholeNumber,
  withProgress,
} from './common.ts';

interface Flags {
  readonly maxTokens: number;
  readonly temperature: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly chat?: boolean;
  readonly revision?: string;
  readonly device: 'cpu' | 'webgpu';
  readonly threads?: number;
  readonly seed: number;
  readonly json?: boolean;
}

export function command(): Command {
  const result = new Command('generate')
    .summary('text from a model')
    .description('Streams what a checkpoint, an exported folder or one ONNX file writes behind a prompt.')
    .argument(
      '<model>',
      `folder, hub id, or .onnx file; "${shipped.name}": the model that ships with the package`,
    )
    .argument('<prompt>', 'the text to go on from')
    .addOption(new Option('--max-tokens <number>', 'new tokens at most').argParser(wholeNumber).default(128))
    .addOption(new Option('--temperature <number>', '0 is greedy').argParser(realNumber).default(0))
    .addOption(new Option('--top-k <number>', 'draw among the k most likely').argParser(wholeNumber))
    .addOption(
      new Option(
        '--top-p <share>',
        'draw among the most likely that together have this probability',
      ).argParser(realNumber),
    )
    .option('--chat', "take the prompt as what a user says, by the model's chat template")
    .option('--revision <name>', 'branch, tag or commit of a hub id');
  for (const option of [seedOption(), deviceOption(), threadsOption(), jsonOption()])
    result.addOption(option);
  return result
    .addHelpText(
      'after',
      `
Examples:
  lapidary generate pebble "Once upon a time"
  lapidary generate ./my-model-gptq-4bit "What is a lapidary?" --chat --temperature 0.7`,
    )
    .action(async (location: string, prompt: string, { json, revision, ...options }: Flags) => {
      await withProgress(async ({ signal, warn }) => {
        const opened = await openModel(location === shipped.name ? undefined : location, { revision, warn });
        if (!json && !options.chat) process.stdout.write(prompt);
        const result = await generate(opened.model ?? opened.file, opened.tokenizer, prompt, {
          ...options,
          context: opened.context,
          signal,
          ...(json ? {} : { onText: (text: string) => void process.stdout.write(text) }),
        });
        print(json ? JSON.stringify(result) : '');
      });
    });
}
