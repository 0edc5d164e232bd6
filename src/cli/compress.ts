/** `lapidary compress`: a checkpoint in, a smaller model out, and what was lost. */

import { Command, Option } from 'commander';
import { ExitCode, LapidaryError } from '../base/errors.ts';
import { shellWord } from '../base/shell.ts';
import { compress, planOf } from '../compress.ts';
import type { Check } from '../export/written.ts';
import { engineNames } from '../formats/engines.ts';
import { formats } from '../formats/index.ts';
import type { Method } from '../methods/contract.ts';
import { methods } from '../methods/index.ts';
import { storedGrid } from '../open.ts';
import { checkRecipe, plainRecipe } from '../recipe/recipe.ts';
import { compresses } from '../recipe/steps.ts';
import { defaultFolder } from '../run/default-name.ts';
import type { CompressReport, Measures } from '../report/report.ts';
import { storedAs } from '../report/run.ts';
import { examplePrompt } from '../report/use.ts';
import type { RunFlags } from './common.ts';
import { print, runOptions, wholeNumber, withProgress } from './common.ts';
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
    .description(
      'Compresses a model and writes a folder that transformers.js (ONNX), llama.cpp (GGUF), vLLM or mlx-lm loads, with what was lost measured.',
    )
    .argument(
      '[model]',
      'folder, hub id or .gguf file; left out: pebble, the model that ships with the package',
    );
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
What methods are: lapidary methods. Their options: lapidary compress --method NAME --help.

Examples:
  lapidary compress
  lapidary compress ./my-model --calibration text.jsonl
  lapidary compress org/name --method rtn --bits 8 --group 128 --out ./small
  lapidary compress ./my-model --bits 4 --for llama.cpp --calibration text.jsonl
  lapidary compress ./my-model --method awq --bits 4 --format awq --calibration text.jsonl
  lapidary compress ./my-model --also "sensitive:10% bits=8" --calibration text.jsonl
  lapidary compress ./my-model --format gguf --type Q4_K_M --calibration text.jsonl
  lapidary compress ./my-model --format gguf --type Q8_0 --fit plain
  lapidary compress ./my-model --calibration text.jsonl --memory
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

/** What is done to it. */
function stepOptions(): Option[] {
  return [
    new Option(
      '--method <name>',
      `how the blocks are compressed: ${namesOf(compresses)}; after rewrites: ${namesOf(({ shape }) => shape === 'rewrite')}; before training: ${namesOf((method) => method.shape === 'train' && !compresses(method))}; joined by + (default: what the format recommends)`,
    ),
    new Option(
      '--also <targets>',
      'another method or other options for some matrices, as often as wanted: "last bits=8", "sensitive:10% bits=8", "*.down_proj rtn bits=8"; "*.o_proj keep" leaves them as they are',
    ).argParser((text: string, before: readonly string[] = []) => [...before, text]),
    new Option(
      '--embedding-bits <number>',
      'bits of the embedding and the head, by rtn; 16 keeps them (default: 8; with ggml, what its type has for them)',
    ).choices(['2', '3', '4', '8', '16']),
  ];
}

const namesOf = (are: (method: Method) => boolean): string =>
  methods
    .filter(are)
    .map(({ name }) => name)
    .join(', ');

/** Texts to calibrate and to measure on. */
function textOptions(): Option[] {
  return [
    new Option(
      '--calibration <file>',
      "text, JSON lines or arrays, CSV, TSV or Parquet that the methods are fitted to; chat messages go through the model's template",
    ),
    new Option(
      '--imatrix <file>',
      'importance matrix of llama.cpp (GGUF or .dat), in place of text: for --format gguf',
    ),
    new Option('--generated-calibration', 'calibrates on text that the model writes itself'),
    new Option(
      '--evaluation <file>',
      'text that the loss is measured on (default: a held-out part of the calibration text)',
    ),
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
    new Option('--for <engine>', 'what will run it: chooses format and recipe').choices(engineNames),
    new Option(
      '--format <name>',
      'what is written: onnx for transformers.js, gguf for llama.cpp, compressed-tensors, gptq or awq for vLLM, mlx for mlx-lm',
    ).choices(Object.keys(formats)),
    new Option('--out <folder>', 'where to write (default: named by model, format, method, bits and group)'),
    new Option(
      '--overwrite',
      "replace whatever is in the folder (without it: only the same recipe's result)",
    ),
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
    new Option('--memory', 'show what the run will need, in memory and on the disk, and end'),
    new Option('--no-speed', 'leave speeds out, as where others use the machine'),
    new Option('--no-answers', 'leave sample answers out of the report'),
  ];
}

async function run(model: string | undefined, flags: Flags, command: Command): Promise<void> {
  const given = (name: string) => {
    const source = command.getOptionValueSource(name);
    return source !== undefined && source !== 'default' ? flags[name] : undefined;
  };
  const open = flags.method === undefined && flags.recipe === undefined;
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
