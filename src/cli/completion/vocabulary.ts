/** What can be typed: commands, flags and the values of each, out of the commands' declarations. */

import type { Argument, Command, Option } from 'commander';
import { engineNames } from '../../formats/engines.ts';
import { methods } from '../../methods/index.ts';
import { describeOptions } from '../../recipe/options.ts';

export interface Flag {
  /** With its dashes. */
  readonly long: string;
  readonly short?: string | undefined;
  readonly help: string;
  readonly takesValue: boolean;
  /** Undefined where anything may stand, as a file. */
  readonly values?: readonly string[] | undefined;
  /** What may follow a first word within one value: "bits=4" behind "gptq". */
  readonly after?: ReadonlyMap<string, readonly string[]> | undefined;
}

export interface Words {
  readonly name: string;
  readonly help: string;
  readonly flags: readonly Flag[];
  /** Of its arguments, where these are words and no files. */
  readonly values: readonly string[];
}

/** @param program with all of its commands */
export function vocabularyOf(program: Command): readonly Words[] {
  const all = program.createHelp().visibleCommands(program);
  const names = all.map((command) => command.name());
  return all.map((command) => ({
    name: command.name(),
    help: oneLine(command.summary() || command.description()),
    flags: [
      ...command.options.filter(({ hidden, long }) => !hidden && long).map(flagOf),
      { long: '--help', short: '-h', help: 'show help', takesValue: false },
    ],
    values: command.registeredArguments.flatMap((argument) => valuesOf(command, argument, names)),
  }));
}

/** Values that are looked up when they are read, so that declarations do not list them. */
const sources: Readonly<Record<string, () => readonly string[]>> = {
  '--method': () => methods.map(({ name }) => name),
  '--step': () => methods.map(({ name }) => name),
  '--for': () => engineNames,
};

function flagOf(option: Option): Flag {
  const { long, short, description, required, optional, argChoices, parseArg } = option;
  const { choices } = (parseArg ?? {}) as { readonly choices?: readonly string[] };
  return {
    long: long!,
    short,
    help: oneLine(description),
    takesValue: required || optional,
    values: argChoices ?? choices ?? sources[long!]?.(),
    ...(long === '--step'
      ? { after: new Map(methods.map((each) => [each.name, optionWords(each.options)])) }
      : {}),
  };
}

/** "bits=2", "bits=4", "damping=" */
function optionWords(schema: Parameters<typeof describeOptions>[0]): string[] {
  return describeOptions(schema).flatMap(({ name, type, choices, default: standard }) => {
    if (type === 'boolean') return [`${name}=${!standard}`];
    return choices ? choices.map((choice) => `${name}=${choice}`) : [`${name}=`];
  });
}

function valuesOf(command: Command, argument: Argument, commands: readonly string[]): readonly string[] {
  if (argument.argChoices) return argument.argChoices;
  if (argument.name() === 'command') return commands;
  return command.name() === 'methods' ? methods.map(({ name }) => name) : [];
}

/** Shells show a line. */
const oneLine = (text: string): string => text.replace(/\s+/g, ' ').slice(0, 100);

/** In single quotes, for all three shells: no word holds one. */
export const quoted = (text: string): string => `'${text.replaceAll("'", '’').replaceAll('\\', '/')}'`;
