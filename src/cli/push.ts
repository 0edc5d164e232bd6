/** `lapidary push`: a result onto the hub, where transformers.js, llama.cpp and others load it by its name. */

import { Command, Option } from 'commander';
import type { Pushed } from '../share/push.ts';
import { push } from '../share/push.ts';
import { jsonOption, print, withProgress } from './common.ts';
import { formatBytes, table } from './table.ts';

interface Flags {
  readonly create?: boolean;
  readonly private?: boolean;
  readonly revision?: string;
  readonly message?: string;
  readonly token?: string;
  readonly any?: boolean;
  readonly dryRun?: boolean;
  readonly json?: boolean;
}

export function command(): Command {
  return new Command('push')
    .summary('upload a result to the Hugging Face hub')
    .description(
      'Uploads a folder that compress wrote, in one commit. The token is taken from HF_TOKEN or from where hf auth login leaves it.',
    )
    .argument('<folder>', 'what compress wrote')
    .argument('<name>', 'on the hub: org/name or user/name')
    .option('--create', 'make the model, and the branch, where they are not there')
    .addOption(new Option('--private', 'make it so that only its owners see it').implies({ create: true }))
    .option('--revision <branch>', 'branch to push to (default: main)')
    .option('--message <text>', 'of the commit (default: what was done, from the report)')
    .option('--token <token>', 'in place of HF_TOKEN')
    .option('--dry-run', 'show which files would be pushed, and end')
    .option('--any', 'push a folder that is no whole result of Lapidary, too')
    .addOption(jsonOption())
    .addHelpText(
      'after',
      `
Files whose names begin with a dot stay here.

Examples:
  lapidary push ./my-model-onnx-gptq-4bit-g32 me/my-model-ONNX --create
  lapidary push ./my-model-onnx-gptq-4bit-g32 me/my-model-ONNX --dry-run`,
    )
    .action(async (folder: string, name: string, { json, ...flags }: Flags) => {
      const pushed = await withProgress((work) => push(folder, name, { ...flags, ...work }));
      print(json ? JSON.stringify(pushed) : describe(pushed));
    });
}

function describe({ repository, revision, files, bytes, commit, url }: Pushed): string {
  const many = `${files.length} ${files.length === 1 ? 'file' : 'files'}, ${formatBytes(bytes)}`;
  if (commit !== undefined) return `Pushed ${many}, as commit ${commit.slice(0, 7)}.\n${url}`;
  const rows = files.map((file) => [file.path, formatBytes(file.bytes)]);
  return `${table(['file', 'bytes'], rows)}\n\nWould push ${many} to ${repository}, branch ${revision}.`;
}
