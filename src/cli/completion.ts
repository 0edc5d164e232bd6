/** `lapidary completion`: a script that teaches a shell this command line, made from what the commands declare. */

import type { Command } from 'commander';
import { Argument, Command as NewCommand } from 'commander';
import { print } from './common.ts';
import { bash } from './completion/bash.ts';
import { fish } from './completion/fish.ts';
import { vocabularyOf } from './completion/vocabulary.ts';
import { zsh } from './completion/zsh.ts';

const shells = { bash, zsh, fish } as const;

export function command(): Command {
  return new NewCommand('completion')
    .summary('commands, flags and their values by Tab in bash, zsh and fish')
    .description(
      'Prints a script for a shell. It holds the words of this version: where it is kept in a file, print it again after an update.',
    )
    .addArgument(new Argument('<shell>', 'bash, zsh or fish').choices(Object.keys(shells)))
    .addHelpText(
      'after',
      `
Examples:
  source <(lapidary completion bash)                                    in ~/.bashrc
  source <(lapidary completion zsh)                                     in ~/.zshrc, behind compinit
  lapidary completion fish > ~/.config/fish/completions/lapidary.fish`,
    )
    .action((shell: keyof typeof shells, _, command: Command) =>
      print(shells[shell](vocabularyOf(command.parent!))),
    );
}
