/**
 * The command line's way in: runs the command that is named, turns errors into what people read and programs can act on.
 */

import { CommanderError } from 'commander';
import { distance } from 'fastest-levenshtein';
import { ExitCode, LapidaryError } from '../base/errors.ts';
import { visible } from '../base/visible.ts';
import { buildProgram } from './program.ts';

/** Runs one command line; never throws. @returns the process's exit code. */
export async function main(args: readonly string[]): Promise<number> {
  // Once, however often it is called.
  process.stdout.off('error', endOfOutput).on('error', endOfOutput);
  process.stderr.off('error', unheard).on('error', unheard);
  const { OMP_NUM_THREADS: named } = process.env;
  try {
    const program = await buildProgram(args, guessing);
    program.hook('preAction', (_, command) => limitThreads(command.opts().threads ?? named));
    await program.parseAsync(args, { from: 'user' });
    return ExitCode.ok;
  } catch (error) {
    return report(error, args.includes('--json'));
  } finally {
    // Whoever calls this goes on.
    limitThreads(named);
  }
}

/** Who hears no progress may want the result all the same. */
const unheard = () => {};

/** Of the process: the engine is told how many, kernels and products look here (base/threads.ts). */
function limitThreads(threads: number | string | undefined): void {
  if (threads === undefined) delete process.env.OMP_NUM_THREADS;
  else process.env.OMP_NUM_THREADS = String(threads);
}

const guessing = {
  outputError: (text: string, write: (text: string) => void) => write(withoutWildGuess(text)),
};

/** Commander's guess at what was meant stays where a typing error may lie between: "--type" is none for "--nope". */
function withoutWildGuess(message: string): string {
  const [guess, meant] = /\n\(Did you mean (\S+)\?\)/.exec(message) ?? [];
  const [, given] = /'(.+?)'/.exec(message) ?? [];
  if (!guess || !meant || !given) return message;
  const typed = given.replace(/^-+/, '');
  return 3 * distance(typed, meant.replace(/^-+/, '')) <= typed.length ? message : message.replace(guess, '');
}

/** Whoever reads along may have had enough (`lapidary inspect | head`); a full disk is an error. */
function endOfOutput(error: NodeJS.ErrnoException): void {
  if (error.code === 'EPIPE') process.exit(ExitCode.ok);
  process.stderr.write(`error: standard output cannot be written: ${error.message}\n`);
  process.exit(ExitCode.system);
}

function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

function report(error: unknown, json: boolean): number {
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return ExitCode.ok;
    const [what, fix] = withoutWildGuess(error.message)
      .replace(/^error: /, '')
      .split('\n');
    if (json)
      printJson({
        error: { what, ...(fix ? { fix: fix.replace(/^\(|\)$/g, '') } : {}) },
        exitCode: ExitCode.usage,
      });
    return ExitCode.usage;
  }
  const known = error instanceof LapidaryError;
  const exitCode = known ? error.exitCode : ExitCode.defect;
  if (json) {
    const { cause: _, ...problem } = known ? error.problem : { what: String(error), cause: undefined };
    printJson({ error: problem, exitCode });
  }
  if (known) process.stderr.write(`error: ${visible(error.message)}\n`);
  else
    process.stderr.write(
      `This is a defect in Lapidary, please report it:\n${(error as Error)?.stack ?? error}\n`,
    );
  return exitCode;
}
