/**
 * The command line's way in: finds the command, loads only its file, turns errors into what people read and
 * programs can act on.
 */

import { Command, CommanderError } from 'commander';
import { distance } from 'fastest-levenshtein';
import { ExitCode, LapidaryError } from '../base/errors.ts';
import { version } from '../version.ts';

type CommandFile = { readonly command: () => Command };

const commands: Readonly<Record<string, () => Promise<CommandFile>>> = {
  compress: () => import('./compress.ts'),
  evaluate: () => import('./evaluate.ts'),
  compare: () => import('./compare.ts'),
  report: () => import('./report.ts'),
  generate: () => import('./generate.ts'),
  methods: () => import('./methods.ts'),
  inspect: () => import('./inspect.ts'),
  journals: () => import('./journals.ts'),
  imatrix: () => import('./imatrix.ts'),
  schema: () => import('./schema.ts'),
};

/** Runs one command line; never throws. @returns the process's exit code. */
export async function main(args: readonly string[]): Promise<number> {
  process.stdout.on('error', endOfOutput);
  // Who hears no progress may want the result all the same.
  process.stderr.on('error', () => {});
  const { OMP_NUM_THREADS: named } = process.env;
  try {
    const program = await buildProgram(args);
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

/** Of the process: the engine is told how many, kernels and products look here (base/threads.ts). */
function limitThreads(threads: number | string | undefined): void {
  if (threads === undefined) delete process.env.OMP_NUM_THREADS;
  else process.env.OMP_NUM_THREADS = String(threads);
}

async function buildProgram(args: readonly string[]): Promise<Command> {
  const program = new Command('lapidary')
    .description('Makes language models smaller and faster, and proves what was lost.')
    .version(version('lapidary'))
    .showHelpAfterError('(lapidary --help lists the commands)')
    .exitOverride()
    .configureOutput(guessing)
    .addHelpText(
      'after',
      `
Examples:
  lapidary compress                                    compress the model that ships with the package
  lapidary compress ./my-model --calibration text.txt  four-bit GPTQ of a Hugging Face folder
  lapidary evaluate ./out --against ./my-model --data test.txt
  lapidary generate ./out "Once upon a time"`,
    );
  const named = args.find((arg) => !arg.startsWith('-'));
  const wanted = named !== undefined && named in commands ? [named] : Object.keys(commands);
  for (const name of wanted) {
    const { command } = await commands[name]!();
    program.addCommand(
      command()
        .exitOverride()
        .configureOutput(guessing)
        .showHelpAfterError(`(lapidary ${name} --help lists what there is)`),
    );
  }
  return program;
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
  if (known) process.stderr.write(`error: ${error.message}\n`);
  else
    process.stderr.write(
      `This is a defect in Lapidary, please report it:\n${(error as Error)?.stack ?? error}\n`,
    );
  return exitCode;
}
