/** `lapidary compress`: a checkpoint in, a smaller model out, and what was lost. */

import { Command, InvalidArgumentError, Option } from 'commander';
import { ExitCode, LapidaryError } from '../base/errors.ts';
import { shellWord } from '../base/shell.ts';
import { compress, dryRunOf, planOf } from '../compress.ts';
import type { Check } from '../export/written.ts';
import { engineNames } from '../formats/engines.ts';
import { formats } from '../formats/index.ts';
import { storedGrid } from '../open.ts';
import { checkRecipe, plainRecipe } from '../recipe/recipe.ts';
import { defaultFolder } from '../run/default-name.ts';
import type { CompressReport, Measures } from '../report/report.ts';
import { storedAs } from '../report/run.ts';
import { examplePrompt } from '../report/use.ts';
import type { RunFlags } from './common.ts';
import { print, runOptions, wholeNumber, withProgress } from './common.ts';
import { describeDryRun } from './dry-run.ts';
import { methodFlags, withMethodHelp } from './method-flags.ts';
import { describePlan } from './plan.ts';
import { duration } from './progress.ts';
import { recipeInput } from './recipe.ts';
import { interval } from '../report/interval.ts';
import { formatBytes, formatCount, table } from './table.ts';

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
  const recipe = checkRecipe(recipeInput(model, flags.recipe, given, stored), 'command line');
  const out = flags.out ?? defaultFolder(recipe);
  if (out === '') {
    throw new LapidaryError(
      { what: 'the name of the output folder is empty', where: '--out' },
      ExitCode.usage,
    );
  }
  const { overwrite, device, threads, speed } = flags;
  const answers = flags.answers ? undefined : false;
  const options = { recipe, out, overwrite, speed, answers, device, threads };
  if (flags.dryRun) {
    const dry = await withProgress((work) => dryRunOf({ ...work, ...options }));
    return print(flags.json ? JSON.stringify(dry) : describeDryRun(dry));
  }
  if (flags.memory) {
    const plan = await withProgress((work) => planOf({ ...work, ...options }));
    return print(flags.json ? JSON.stringify(plan) : describePlan(plan));
  }
  const report = await withProgress((work) => compress({ ...work, ...options }));
  print(flags.json ? JSON.stringify({ ...report, recipe: plainRecipe(report.recipe) }) : describe(report));
}

function describe(report: CompressReport): string {
  const { original, compressed, file, out, chat, checks } = report;
  const row = (name: string, show: (measures: Measures) => string | undefined) => [
    name,
    show(original) ?? '',
    show(compressed) ?? '',
  ];
  const rows = [
    row('bytes', ({ bytes }) => formatBytes(bytes)),
    row('bits a weight', ({ bitsPerWeight }) => bitsPerWeight.toFixed(2)),
    row('perplexity', ({ perplexity }) => perplexity && interval(perplexity, 3)),
    row(
      'perplexity, times the original',
      ({ perplexityRatio }) => perplexityRatio && interval(perplexityRatio, 4),
    ),
    row('KL divergence, nats', ({ kl }) => kl && interval({ value: kl.mean, ...kl }, 5)),
    row('same top token', ({ agreement }) => agreement && interval(agreement, 4)),
    row('prompt, tokens/s', ({ speed }) => speed?.prefillTokensPerSecond.toFixed(0)),
    row('generation, tokens/s', ({ speed }) => speed?.decodeTokensPerSecond.toFixed(0)),
  ].filter(([, before, after]) => before || after);
  const seconds = Object.values(report.seconds).reduce((sum, value) => sum + value, 0);
  return [
    table(['', 'original', 'compressed'], rows),
    '',
    `${timesSmaller(original.bytes / compressed.bytes)}, ${formatCount(compressed.parameters)} parameters, in ${duration(1000 * seconds)}.`,
    ...checks.map((check) => verified(file.path, check)),
    ...(compressed.tokens
      ? [
          `Measured on ${compressed.tokens.toLocaleString('en')} predicted tokens; ${compressed.perplexity?.low === undefined ? 'one sequence has no intervals' : 'brackets: 95% interval over sequences'}.`,
        ]
      : []),
    storedAs(report),
    ...example(report),
    ...(report.slower ? [`Note: ${report.slower}`] : []),
    ...report.notes.map((note) => `Note: ${note}`),
    '',
    'Next:',
    `  npx lapidary generate ${shellWord(out)} "${examplePrompt(chat)}"${chat ? ' --chat' : ''}`,
  ].join('\n');
}

/** One of the answers, so that a broken model is seen at once. */
function example({ answers }: CompressReport): string[] {
  const [first] = answers;
  if (!first) return [];
  const line = (text: string) => JSON.stringify(text.trim().slice(0, 160));
  return [
    `Asked ${line(first.prompt)}:`,
    `  original    ${line(first.original)}`,
    `  compressed  ${first.original === first.compressed ? 'the same' : line(first.compressed)}`,
  ];
}

const timesSmaller = (ratio: number): string =>
  ratio < 1 ? `${(1 / ratio).toFixed(2)} times larger` : `${ratio.toFixed(2)} times smaller`;

function verified(path: string, { engine, worst, tolerance }: Check): string {
  const loaded = `Verified: ${path} loaded in ${engine}; its logits`;
  if (worst === 0) return `${loaded} are those of the model in memory.`;
  return `${loaded} differ from the model in memory by ${worst.toPrecision(2)} of their spread at most (allowed: ${tolerance}).`;
}
