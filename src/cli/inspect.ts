/** `lapidary inspect`: what is in a model: layers, shapes, types, bytes. Reads headers, no weights. */

import { Command } from 'commander';
import { ExitCode, LapidaryError } from '../base/errors.ts';
import { elementCount } from '../base/tensor.ts';
import { fileTensors } from '../evaluate/cost.ts';
import { costOf } from '../measure/measure.ts';
import { findArchitecture } from '../models/index.ts';
import type { Configuration, LayerPlan } from '../models/model.ts';
import type { Listing, OpenedWeights } from '../open.ts';
import { listTensors, openWeights, settingsOf } from '../open.ts';
import { readJson, templateText } from '../tokenizer/tokenizer.ts';
import type { Work } from './common.ts';
import { jsonOption, print, withProgress } from './common.ts';
import { formatBytes, formatCount, table } from './table.ts';

type Row = Listing['tensors'][number];

interface Flags {
  readonly revision?: string;
  readonly json?: boolean;
}

export function command(): Command {
  return new Command('inspect')
    .summary('layers, shapes, types and bytes of a model')
    .description('Lists what is in a checkpoint, an exported folder, or one GGUF or ONNX file.')
    .argument(
      '[model]',
      'folder, hub id, .gguf or .onnx file; left out: the model that ships with the package',
    )
    .option('--revision <name>', 'branch, tag or commit of a hub id')
    .addOption(jsonOption())
    .addHelpText(
      'after',
      `
Weights of an architecture that is not compressed here are listed, too.

Examples:
  lapidary inspect
  lapidary inspect ./my-model --json`,
    )
    .action((location: string | undefined, flags: Flags) =>
      withProgress((work) => inspect(location, flags, work)),
    );
}

async function inspect(location: string | undefined, flags: Flags, work: Work): Promise<void> {
  const opened = await openWeights(location, { ...flags, ...work }).catch((error) => error);
  if (opened instanceof Error) return inspectUnknown(location, flags, work, opened);
  const tensors = rowsOf(opened);
  const cost = costOf(opened);
  const chatTemplate = hasChatTemplate(opened);
  if (flags.json)
    return print(JSON.stringify({ model: opened.name, ...plan(opened), chatTemplate, ...cost, tensors }));
  print(
    [
      ...describePlan(opened),
      `${formatCount(cost.parameters)} parameters, ${formatBytes(cost.bytes)}, ${cost.bitsPerWeight.toFixed(2)} bits a weight, ${formatCount(cost.multiplyAdds)} multiply-adds a token`,
      `${chatTemplate ? 'has a' : 'no'} chat template`,
      '',
      listed(tensors),
    ].join('\n'),
  );
}

/** What is no model of ours is listed all the same, with the reason, where its headers can be read. */
async function inspectUnknown(
  location: string | undefined,
  flags: Flags,
  work: Work,
  reason: Error,
): Promise<void> {
  const isInput = reason instanceof LapidaryError && reason.exitCode === ExitCode.input;
  if (!isInput || location === undefined) throw reason;
  const listing = await listTensors(location, { ...flags, ...work }).catch(() => {
    throw reason;
  });
  const { name, architecture, tensors } = listing;
  const sum = (value: (row: Row) => number) => tensors.reduce((total, row) => total + value(row), 0);
  const [parameters, bytes] = [sum(({ shape }) => elementCount(shape)), sum((row) => row.bytes)];
  if (flags.json)
    return print(
      JSON.stringify({ model: name, architecture, refused: reason.problem, parameters, bytes, tensors }),
    );
  work.warn(`not a model that Lapidary compresses: ${reason.message}`);
  print(
    [
      `${name}: ${architecture ?? 'of unknown architecture'}`,
      `${tensors.length} tensors, ${formatCount(parameters)} elements as stored, ${formatBytes(bytes)}`,
      '',
      listed(tensors),
    ].join('\n'),
  );
}

function listed(tensors: readonly Row[]): string {
  const rows = tensors.map((row) => [row.name, row.shape.join(' x '), row.dtype, formatBytes(row.bytes)]);
  return table(['tensor', 'shape', 'type', 'bytes'], rows);
}

function rowsOf(opened: OpenedWeights): readonly Row[] {
  if (opened.file !== undefined) return fileTensors(opened.file);
  const { matrices, vectors } = opened.model;
  const all: Row[] = [];
  for (const [name, encoding] of matrices) {
    const bytes = [...encoding.tensors.values()].reduce((sum, tensor) => sum + tensor.byteLength, 0);
    all.push({ name: `${name}.weight`, shape: encoding.shape, dtype: encoding.label, bytes });
  }
  for (const [name, { shape, dtype, byteLength }] of vectors)
    all.push({ name, shape, dtype, bytes: byteLength });
  return all.sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true }));
}

function plan(opened: OpenedWeights): Record<string, unknown> {
  const config = opened.model ? opened.model.config : configurationOf(opened.file);
  if (!config) return { context: opened.context };
  const { modelType, hidden, vocabulary, context, layers } = config;
  return { modelType, hidden, vocabulary, context, layers };
}

/** A model in a few words. */
function describePlan({ name, model, file, context }: OpenedWeights): string[] {
  const config = model ? model.config : configurationOf(file!);
  if (!config) return [`${name}: an ONNX file, context ${context}`];
  const { modelType, hidden, vocabulary, layers, tiedHead } = config;
  const all = (value: (layer: LayerPlan) => number | undefined) =>
    [...new Set(layers.map(value))].filter((each) => each !== undefined).join(' or ');
  const windows = all(({ window }) => window);
  return [
    `${name}: ${modelType}, ${layers.length} layers, context ${context}${windows === '' ? '' : `, windows of ${windows}`}`,
    `hidden ${hidden}, ${all((layer) => layer.heads)} heads of ${all((layer) => layer.headSize)}, ${all((layer) => layer.keyValueHeads)} of keys and values, feed-forward ${all((layer) => layer.intermediate)}`,
    `vocabulary ${vocabulary}, ${tiedHead ? 'the head is the embedding' : 'a head of its own'}`,
  ];
}

/** Of an exported file, as the settings beside it say; undefined where these are none of an architecture of ours. */
function configurationOf(file: string): Configuration | undefined {
  try {
    const json = readJson(settingsOf(file), 'config.json') ?? {};
    return findArchitecture(json).configure(json);
  } catch {
    return undefined;
  }
}

function hasChatTemplate({ model, file }: OpenedWeights): boolean {
  const files = model ? model.files : settingsOf(file!);
  return templateText(files, readJson(files, 'tokenizer_config.json')) !== undefined;
}
