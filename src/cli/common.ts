/** What the commands share: flags, how numbers are read, progress and Ctrl-C around the work. */

import { InvalidArgumentError, Option } from 'commander';
import { LapidaryError } from '../base/errors.ts';
import type { Progress } from '../base/progress.ts';
import { visible } from '../base/visible.ts';
import type { Device } from '../graph/session.ts';
import { drawProgress } from './progress.ts';
import { exitCodes, isSupervised } from './supervise.ts';

export function wholeNumber(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0)
    throw new InvalidArgumentError('A whole number is expected.');
  return value;
}

export function positiveNumber(text: string): number {
  const value = wholeNumber(text);
  if (value === 0) throw new InvalidArgumentError('A whole number above 0 is expected.');
  return value;
}

export function realNumber(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value)) throw new InvalidArgumentError('A number is expected.');
  return value;
}

export const jsonOption = () =>
  new Option('--json', 'one JSON object on standard output, progress on standard error');

/** Flags of every command that runs a model. */
export const runOptions = (): Option[] => [
  new Option('--seed <number>', 'seed of everything random').argParser(wholeNumber).default(0),
  new Option('--device <name>', 'where to run').choices(['cpu', 'webgpu']).default('cpu'),
  new Option('--threads <number>', 'threads to take (default: OMP_NUM_THREADS, else all cores)').argParser(
    positiveNumber,
  ),
  jsonOption(),
];

/** What `runOptions` are parsed to. */
export interface RunFlags {
  readonly seed: number;
  readonly device: Device;
  readonly threads?: number;
  readonly json?: boolean;
}

/** Flags of a text to measure on. */
export const dataOptions = (): Option[] => [
  new Option('--separator <text>', 'what stands between the documents of a text file'),
  new Option(
    '--field <name>',
    'field or column that holds text or messages (default: "text", "messages" or "conversations")',
  ),
  new Option(
    '--documents <number>',
    'only the first so many documents, or windows of a single one',
  ).argParser(positiveNumber),
  new Option(
    '--length <tokens>',
    'tokens that a document is cut at, or a single one cut into (default: the context)',
  ).argParser(positiveNumber),
];

export interface Work {
  readonly progress: Progress;
  readonly signal: AbortSignal;
  readonly warn: (line: string) => void;
  readonly say: (line: string) => void;
}

/** Runs the work with progress on standard error; the first Ctrl-C asks it to stop and clean up, a second one ends it. */
export async function withProgress<T>(work: (context: Work) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const { progress, say, finish } = drawProgress();
  const interrupt = (signal: NodeJS.Signals) => {
    if (controller.signal.aborted) {
      // A parent that counts signals sends on what a terminal has told both.
      if (!isSupervised()) process.exit(exitCodes[signal]);
      return;
    }
    say('stopping, once more to end at once');
    controller.abort(new LapidaryError({ what: 'interrupted' }, exitCodes[signal]));
  };
  process.on('SIGINT', interrupt);
  process.on('SIGTERM', interrupt);
  try {
    const warn = (line: string) => say(`warning: ${line}`);
    return await work({ progress, signal: controller.signal, warn, say });
  } catch (error) {
    // Whatever an interrupted engine says, it was interrupted.
    throw controller.signal.aborted ? controller.signal.reason : error;
  } finally {
    process.off('SIGINT', interrupt);
    process.off('SIGTERM', interrupt);
    finish();
  }
}

/** On standard output; what a model's files say commands no terminal. */
export function print(text: string): void {
  process.stdout.write(`${visible(text)}\n`);
}
