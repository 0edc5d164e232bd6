/** `lapidary generate`: text from a model, as it comes. */

import { text } from 'node:stream/consumers';
import { Command, Option } from 'commander';
import { ExitCode, LapidaryError } from '../base/errors.ts';
import { generate } from '../generate/generator.ts';
import { openModel, shipped } from '../open.ts';
import type { RunFlags } from './common.ts';
import { print, realNumber, runOptions, wholeNumber, withProgress } from './common.ts';

interface Flags extends RunFlags {
  readonly maxTokens: number;
  readonly temperature: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly chat?: boolean;
  readonly revision?: string;
}

export function command(): Command {
  const result = new Command('generate')
    .summary('text from a model')
    .description(
      'Streams what a checkpoint, an exported folder, or one GGUF or ONNX file writes behind a prompt.',
    )
    .argument(
      '<model>',
      `folder, hub id, .gguf or .onnx file; "${shipped.name}": the model that ships with the package`,
    )
    .argument('<prompt>', 'the text to go on from; - reads it from standard input')
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
  for (const option of runOptions()) result.addOption(option);
  return result
    .addHelpText(
      'after',
      `
Examples:
  lapidary generate pebble "Once upon a time"
  cat question.txt | lapidary generate pebble -
  lapidary generate ./my-model-onnx-gptq-4bit-g32 "What is a lapidary?" --chat --temperature 0.7`,
    )
    .action(async (location: string, given: string, { json, revision, ...options }: Flags) => {
      const prompt = given === '-' ? await standardInput() : given;
      const opened = await withProgress((work) => openModel(location, { revision, ...work }));
      await withProgress(async ({ signal }) => {
        // The prompt stands before the first text, so that it is not shown when there is none.
        let before = options.chat ? '' : prompt;
        const write = (text: string) => {
          process.stdout.write(before + text);
          before = '';
        };
        const writing = generate(opened, prompt, { ...options, signal });
        if (!json) for await (const piece of writing) write(piece);
        const result = await writing;
        if (!json) print(before);
        signal.throwIfAborted();
        if (json) print(JSON.stringify(result));
      });
    });
}

/** What is piped in, without the line end that a shell puts behind it. */
async function standardInput(): Promise<string> {
  const given = await text(process.stdin);
  if (given.trim() !== '') return given.replace(/\r?\n$/, '');
  throw new LapidaryError(
    {
      what: 'standard input holds no prompt',
      where: '-',
      fix: 'pipe a text in (cat prompt.txt | lapidary generate MODEL -), or give the prompt itself',
    },
    ExitCode.usage,
  );
}
