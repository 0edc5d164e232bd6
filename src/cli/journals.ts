/** `lapidary journals`: what runs that were killed or given up left beside their outputs, and away with it. */

import { basename, join, relative } from 'node:path';
import { Command } from 'commander';
import { isObject } from '../base/json.ts';
import { ExitCode, LapidaryError } from '../base/errors.ts';
import { shortly } from '../run/held.ts';
import type { FoundJournal, Key } from '../io/journal.ts';
import { findJournals, removeJournal } from '../io/journal.ts';
import { checkRecipe } from '../recipe/recipe.ts';
import { jsonOption, print } from './common.ts';
import { formatBytes, table } from './table.ts';

interface Flags {
  readonly remove?: readonly string[];
  readonly all?: boolean;
  readonly json?: boolean;
}

export function command(): Command {
  return new Command('journals')
    .summary('what killed runs left to continue from: list and remove')
    .description(
      'Lists the journals in a folder: what runs that did not end keep beside their outputs, for the same command to continue from. They are hidden folders, .NAME.journal.',
    )
    .argument('[folder]', 'where the outputs are', '.')
    .option('--remove <name...>', 'remove the journals of these outputs')
    .option('--all', 'remove all that no run uses now')
    .addOption(jsonOption())
    .addHelpText(
      'after',
      `
Examples:
  lapidary journals
  lapidary journals --remove my-model-onnx-gptq-4bit-g32
  lapidary journals ./results --all`,
    )
    .action((folder: string, { remove, all = false, json }: Flags) => {
      const journals = findJournals(folder);
      const removed = all ? journals.filter(({ inUse }) => !inUse) : named(journals, folder, remove ?? []);
      for (const { output } of removed) removeJournal(output);
      const left = journals.filter((journal) => !removed.includes(journal));
      if (json) return print(JSON.stringify({ journals: left.map(plain), removed: removed.map(plain) }));
      print(describe(left, removed, folder));
    });
}

/** By the output's name or path, or the journal's own. */
function named(journals: readonly FoundJournal[], folder: string, names: readonly string[]): FoundJournal[] {
  return names.map((name) => {
    const found = journals.find(
      ({ output }) =>
        relative(output, name) === '' ||
        [basename(output), `.${basename(output)}.journal`].includes(basename(name)),
    );
    if (found) return found;
    throw new LapidaryError(
      {
        what: 'no such journal',
        where: join(folder, name),
        expected: journals.map(({ output }) => basename(output)).join(', ') || 'nothing: there is none here',
        found: name,
        fix: 'lapidary journals FOLDER lists them',
      },
      ExitCode.usage,
    );
  });
}

const plain = (journal: FoundJournal) => {
  const { output, units, bytes, changed, inUse, key } = journal;
  return { output, units, bytes, changed: changed.toISOString(), inUse, run: runOf(key) };
};

function describe(left: readonly FoundJournal[], removed: readonly FoundJournal[], folder: string): string {
  const freed = removed.reduce((sum, { bytes }) => sum + bytes, 0);
  const rows = left.map(({ output, bytes, changed, inUse, key }) => [
    basename(output),
    formatBytes(bytes),
    changed.toISOString().slice(0, 16).replace('T', ' '),
    inUse ? 'running now' : '',
    runOf(key),
  ]);
  return [
    ...(removed.length > 0 ? [`Removed: ${removed.length}, ${formatBytes(freed)}.`] : []),
    left.length > 0
      ? table(['for', 'size', 'last written, UTC', '', 'run'], rows)
      : `No ${removed.length > 0 ? 'other ' : ''}journals ${folder === '.' ? 'here' : `in ${folder}`}.`,
  ].join('\n');
}

/** "my-model: onnx, gptq 4 bits" */
function runOf(key: Key | undefined): string {
  if (!key) return 'unknown';
  try {
    return `${key.source}: ${shortly(checkRecipe(isObject(key.recipe) ? key.recipe : {}))}`;
  } catch {
    return `${key.source}: by another version`;
  }
}
