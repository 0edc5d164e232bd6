/** The commands, under the headings that help shows them by. Of those that a command line does not name no file is loaded. */

import type { OutputConfiguration } from 'commander';
import { Command } from 'commander';
import { version } from '../version.ts';

type CommandFile = { readonly command: () => Command };

const groups: Readonly<Record<string, Readonly<Record<string, () => Promise<CommandFile>>>>> = {
  Compress: {
    compress: () => import('./compress.ts'),
    imatrix: () => import('./imatrix.ts'),
    journals: () => import('./journals.ts'),
  },
  Measure: {
    evaluate: () => import('./evaluate.ts'),
    compare: () => import('./compare.ts'),
    report: () => import('./report.ts'),
  },
  Use: { generate: () => import('./generate.ts') },
  Share: { push: () => import('./push.ts') },
  Look: {
    methods: () => import('./methods.ts'),
    inspect: () => import('./inspect.ts'),
    schema: () => import('./schema.ts'),
    completion: () => import('./completion.ts'),
  },
};

/** Commands that speak of others. */
const needsAll = new Set(['completion', 'help']);

/** @param args of the command line, which name the command */
export async function buildProgram(args: readonly string[], output: OutputConfiguration): Promise<Command> {
  const program = new Command('lapidary')
    .description('Makes language models smaller and faster, and proves what was lost.')
    .version(version('lapidary'))
    .showHelpAfterError('(lapidary --help lists the commands)')
    .exitOverride()
    .configureOutput(output)
    // A line each: what a command takes, its own help tells.
    .configureHelp({ subcommandTerm: (command) => command.name() })
    .addHelpCommand(
      new Command('help').argument('[command]').summary('what a command does and takes').helpGroup('Look:'),
    )
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
  const all = Object.entries(groups).flatMap(([group, commands]) =>
    Object.entries(commands).map(([name, load]) => ({ group, name, load })),
  );
  const one = all.filter(({ name }) => name === named && !needsAll.has(name));
  const isVersion = named === undefined && args.some((arg) => arg === '--version' || arg === '-V');
  for (const { group, name, load } of one.length > 0 || isVersion ? one : all) {
    const { command } = await load();
    program.addCommand(
      command()
        .helpGroup(`${group}:`)
        .exitOverride()
        .configureOutput(output)
        .showHelpAfterError(`(lapidary ${name} --help lists what there is)`),
    );
  }
  return program;
}
