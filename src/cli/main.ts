/**
 * The command line's way in: finds the command, loads only its file, turns errors into what people read and
 * programs can act on.
 */

import { Command, CommanderError } from 'commander';
import { ExitCode, LapidaryError } from '../base/errors.ts';
import { version } from '../version.ts';

type CommandFile = { readonly command: () => Command };

const commands: Readonly<Record<string, () => Promise<CommandFile>>> = {
  compress: () => import('./compress.ts'),
  evaluate: () => import('./evaluate.ts'),
  compare: () => import('./compare.ts'),
  generate: () => import('./generate.ts'),
  inspect: () => import('./inspect.ts'),
};

/** Runs one command line; never throws. @returns the process's exit code. */
export async function main(args: readonly string[]): Promise<number> {
  try {
    const program = await buildProgram(args);
    await program.parseAsync(args, { from: 'user' });
    return ExitCode.ok;
  } catch (error) {
    return report(error, args.includes('--json'));
  }
}

async function buildProgram(args: readonly string[]): Promise<Command> {
  const program = new Command('lapidary')
    .description('Makes language models smaller and faster, and proves what was lost.')
    .version(version('lapidary'))
    .showSuggestionAfterError()
    .exitOverride()
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
    program.addCommand(command().exitOverride().showSuggestionAfterError());
  }
  return program;
}

function report(error: unknown, json: boolean): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? ExitCode.ok : ExitCode.usage;
  const known = error instanceof LapidaryError;
  const exitCode = known ? error.exitCode : ExitCode.defect;
  if (json) {
    const { cause: _, ...problem } = known ? error.problem : { what: String(error), cause: undefined };
    process.stdout.write(`${JSON.stringify({ error: problem, exitCode })}\n`);
  }
  if (known) process.stderr.write(`error: ${error.message}\n`);
  else
    process.stderr.write(
      `This is a defect in Lapidary, please report it:\n${(error as Error)?.stack ?? error}\n`,
    );
  return exitCode;
}
