/** `lapidary compress`: a checkpoint in, a smaller model out, and what was lost. */

import { Command, InvalidArgumentError, Option } from 'commander';
import { ExitCode, LapidaryError } from '../base/errors.ts';
import { compressAll, dryRunsOf, plansOf } from '../compress.ts';
import { engineNames } from '../formats/engines.ts';
import { formats } from '../formats/index.ts';
import { storedGrid } from '../open.ts';
import { checkRecipe, plainRecipe } from '../recipe/recipe.ts';
import type { TypedRecipe } from '../run/asked.ts';
import { defaultFolder, folderOfTypes } from '../run/default-name.ts';
import type { RunFlags } from './common.ts';
import { print, runOptions, wholeNumber, withProgress } from './common.ts';
import { describeDryRun } from './dry-run.ts';
import { methodFlags, withMethodHelp } from './method-flags.ts';
import { describePlan } from './plan.ts';
import { typedInputs } from './recipe.ts';
import { describeResults } from './result.ts';

interface Flags extends RunFlags, Readonly<Record<string, unknown>> {
  readonly recipe?: string;
  readonly out?: string;
  readonly overwrite?: boolean;
  readonly speed: boolean;
  readonly answers: boolean;
}

export function command(): Command {
  const result = new Command('compress')
    .summary('compress a model, verify it, and measure what was lost')
    .description('Makes a model smaller, writes a folder that its engine loads, and measures what was lost.')
    .argument('[model]', 'folder, hub id or .gguf file; left out: pebble, which is in the package');
  const groups: Record<string, Option[]> = {
    'Model:': modelOptions(),
    'Method:': [...stepOptions(), ...methodFlags()],
    'Text:': textOptions(),
    'Output:': outputOptions(),
    'Machine:': [...machineOptions(), ...runOptions()],
  };
  for (const [heading, options] of Object.entries(groups))
    for (const option of options) result.addOption(option.helpGroup(heading));
  return withMethodHelp(result)
    .addHelpText(
      'after',
      `
Methods and their options: lapidary methods, lapidary methods gptq.

Examples:
  lapidary compress
  lapidary compress ./my-model --for ollama --calibration text.jsonl
  lapidary compress org/name --method rtn --bits 8 --out ./small
  lapidary compress ./my-model --step "awq" --step "gptq bits=4 group=32" --calibration text.jsonl
  lapidary compress ./my-model --types q4,q8,fp16 --calibration text.jsonl
  lapidary compress ./my-model --format gguf --type Q4_K_M --calibration text.jsonl --dry-run
  lapidary compress --recipe recipe.yaml --out ./again`,
    )
    .action((model: string | undefined, flags: Flags) => run(model, flags, result));
}

/** What is compressed. */
function modelOptions(): Option[] {
  return [
    new Option('--recipe <file>', 'a recipe as YAML; flags that are given go over it'),
    new Option('--revision <name>', 'branch, tag or commit of a hub id'),
  ];
}

/** Of the choices that its help names already; completion finds them here. */
const oneOf = (choices: readonly string[]) =>
  Object.assign(
    (text: string) => {
      if (choices.includes(text)) return text;
      throw new InvalidArgumentError(`Allowed choices are ${choices.join(', ')}.`);
    },
    { choices },
  );

const collected = (text: string, before: readonly string[] = []): readonly string[] => [...before, text];

/** What is done to it. */
function stepOptions(): Option[] {
  return [
    new Option(
      '--step <text>',
      'a method and its options, repeated for more: "gptq bits=4 group=32"',
    ).argParser(collected),
    new Option('--method <name>', 'in place of steps: gptq, awq+gptq (default: what is recommended)'),
    new Option(
      '--also <targets>',
      'other options for some matrices, repeated for more: "last bits=8"',
    ).argParser(collected),
    new Option(
      '--embedding-bits <number>',
      'of embedding and head: 2, 3, 4, 8, or 16, which keeps them (default: 8)',
    ).argParser(oneOf(['2', '3', '4', '8', '16'])),
  ];
}

/** Texts to calibrate and to measure on. */
function textOptions(): Option[] {
  return [
    new Option(
      '--calibration <file>',
      'text or chats that methods are fitted to: txt, JSON, CSV, TSV, Parquet',
    ),
    new Option('--generated-calibration', 'calibrates on text that the model writes itself'),
    new Option('--imatrix <file>', "llama.cpp's importance matrix, in place of text"),
    new Option('--evaluation <file>', 'text to measure the loss on (default: part of the calibration text)'),
    new Option('--separator <text>', 'what stands between the documents of a text file'),
    new Option(
      '--field <name>',
      'field or column that holds text or messages (default: "text", "messages" or "conversations")',
    ),
    new Option('--sequences <number>', 'calibration sequences (default: 128; for pebble 48)').argParser(
      wholeNumber,
    ),
    new Option('--length <tokens>', 'tokens a sequence (default: 512)').argParser(wholeNumber),
  ];
}

/** What is written, and where. */
function outputOptions(): Option[] {
  return [
    new Option('--for <engine>', `what will run it; chooses all else: ${engineNames.join(', ')}`),
    new Option('--format <name>', Object.keys(formats).join(', ')).argParser(oneOf(Object.keys(formats))),
    new Option(
      '--types <names>',
      'several types side by side, the default first: q4,q8,fp16; of gguf Q4_K_M,Q8_0,F16',
    ),
    new Option('--out <folder>', 'where to write (default: a name that says what was done)'),
    new Option('--overwrite', "replaces whatever is there (without: only the same recipe's result)"),
    new Option('--activations <type>', 'onnx: type the written graph computes in').choices([
      'float32',
      'float16',
    ]),
    new Option('--cache <type>', 'onnx: how keys and values are kept; integers are for the CPU').choices([
      'floats',
      'int8',
      'int4',
    ]),
    new Option(
      '--products <kind>',
      "onnx: ONNX Runtime's operator, operators of ONNX alone, or weights restored at load (for WebAssembly)",
    ).choices(['matmulnbits', 'qdq', 'dequantized']),
    new Option('--floats <type>', 'gguf and safetensors: type of what is not quantized').choices([
      'F16',
      'BF16',
      'F32',
    ]),
  ];
}

/** How a run goes. */
function machineOptions(): Option[] {
  return [
    new Option('--dry-run', 'shows what would become of which matrix, bytes before and after, and ends'),
    new Option('--memory', 'shows what the run will need, in memory and on the disk, and ends'),
    new Option('--no-speed', 'leaves speeds out, as where others use the machine'),
    new Option('--no-answers', 'leaves sample answers out of the report'),
  ];
}

async function run(model: string | undefined, flags: Flags, command: Command): Promise<void> {
  const given = (name: string) => {
    const source = command.getOptionValueSource(name);
    return source !== undefined && source !== 'default' ? flags[name] : undefined;
  };
  const open = ['method', 'step', 'recipe'].every((name) => flags[name] === undefined);
  const revision = given('revision') as string | undefined;
  const stored = open ? await withProgress((work) => storedGrid(model, { ...work, revision })) : undefined;
  const inputs = typedInputs(model, flags.recipe, given, stored);
  const recipes = inputs.map(({ type, input }) => ({ type, recipe: checkRecipe(input, 'command line') }));
  const all = recipes as [TypedRecipe, ...TypedRecipe[]];
  const types = recipes.flatMap(({ type }) => type ?? []);
  const [{ recipe }] = all;
  const out = flags.out ?? (types.length > 0 ? folderOfTypes(recipe, types) : defaultFolder(recipe));
  if (out === '') {
    throw new LapidaryError(
      { what: 'the name of the output folder is empty', where: '--out' },
      ExitCode.usage,
    );
  }
  const { overwrite, device, threads, speed } = flags;
  const answers = flags.answers ? undefined : false;
  const options = { recipes: all, out, overwrite, speed, answers, device, threads };
  const printJson = (results: readonly object[]) =>
    print(JSON.stringify(types.length > 0 ? { types: results } : results[0]));
  const told = <T extends object>(results: readonly T[], describe: (result: T) => string) => {
    if (flags.json) return printJson(results);
    const headed = results.map(
      (result, at) => (types.length > 0 ? `${types[at]}\n\n` : '') + describe(result),
    );
    print(headed.join('\n\n'));
  };
  if (flags.dryRun) {
    const runs = await withProgress((work) => dryRunsOf({ ...work, ...options }));
    return told(runs, describeDryRun);
  }
  if (flags.memory) {
    const plans = await withProgress((work) => plansOf({ ...work, ...options }));
    return told(plans, describePlan);
  }
  const reports = await withProgress((work) => compressAll({ ...work, ...options }));
  if (flags.json) printJson(reports.map((report) => ({ ...report, recipe: plainRecipe(report.recipe) })));
  else print(describeResults(reports));
}
