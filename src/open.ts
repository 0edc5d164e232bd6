/**
 * What a MODEL argument is: nothing (the model that ships with the package), a folder or hub id with a checkpoint, a
 * GGUF file or the folder of one, a folder that an export wrote, or one ONNX file of it. The last two are run as their
 * users run them.
 */

import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ExitCode, LapidaryError } from './base/errors.ts';
import { parseJsonObject } from './base/json.ts';
import type { Progress } from './base/progress.ts';
import type { Checkpoint } from './io/checkpoint.ts';
import { openCheckpoint } from './io/checkpoint.ts';
import { openGguf } from './io/gguf/read.ts';
import { withoutAddress } from './io/hub-id.ts';
import { defaultFile } from './io/onnx/transformers.ts';
import type { Origin } from './io/origin.ts';
import { isLegalFile, mergedOrigin, originFromFolder, originFromGguf } from './io/origin.ts';
import { floatTensors, ggufGrid, modelFromGguf } from './models/gguf.ts';
import { loadModel } from './models/index.ts';
import type { Model } from './models/model.ts';
import type { StoredGrid } from './models/quantized/index.ts';
import { quantizedGrid } from './models/quantized/index.ts';
import type { Tokenizer } from './tokenizer/tokenizer.ts';
import { loadTokenizer, withinRows } from './tokenizer/tokenizer.ts';

/** The folder of the model that ships with the package, and its text for calibration and evaluation. */
export const shipped = {
  /** Calibration sequences where nobody says how many: more lower its KL by less than its interval (docs/lab/speed.md). */
  sequences: 48,
  name: 'pebble',
  folder: fileURLToPath(new URL('../models/pebble', import.meta.url)),
  data: fileURLToPath(new URL('../models/pebble/stories.jsonl', import.meta.url)),
};

interface Common {
  readonly name: string;
  readonly tokenizer: Tokenizer;
  /** Longest sequence, in tokens. */
  readonly context: number;
}

/** A checkpoint or GGUF file: weights that can be compressed. */
export interface OpenedCheckpoint extends Common {
  readonly model: Model;
  readonly checkpoint: Pick<Checkpoint, 'tensors' | 'identity'>;
  /** What it says of where it is from, and of its license. */
  readonly origin?: Origin | undefined;
  /** Of the one file that an engine loads, header and vocabulary included. */
  readonly fileBytes?: number | undefined;
  readonly file?: undefined;
}

/** An exported ONNX file: what an engine runs. */
export interface OpenedFile extends Common {
  readonly model?: undefined;
  readonly file: string;
}

export type Opened = OpenedCheckpoint | OpenedFile;

export interface OpenOptions {
  readonly revision?: string | undefined;
  readonly progress?: Progress | undefined;
  readonly warn?: ((line: string) => void) | undefined;
}

/** What `openModel` gives, before its tokenizer is read. */
export type OpenedWeights = Omit<OpenedCheckpoint, 'tokenizer'> | Omit<OpenedFile, 'tokenizer'>;

/** Whether a MODEL argument means the model that ships with the package: nothing, or its name. */
export function isShipped(location: string | undefined): boolean {
  return location === undefined || (location === shipped.name && !existsSync(location));
}

/** Whether it is a first look at what the package does: its own model, by its own text, of which less is enough. */
export const isFirstLook = (location: string | undefined, text: string | undefined): boolean =>
  isShipped(location) && text === undefined;

/** @throws LapidaryError when it is none of these, or its tokenizer does not fit */
export async function openModel(location: string | undefined, options: OpenOptions = {}): Promise<Opened> {
  const weights = await openWeights(location, options);
  const { model } = weights;
  const tokenizer = loadTokenizer(model ? model.files : settingsOf(weights.file));
  const rows = model ? model.config.vocabulary : rowsOf(weights.file);
  return { ...weights, tokenizer: withinRows(tokenizer, rows, options.warn) };
}

/** @throws LapidaryError when it is not a checkpoint */
export async function openForCompression(
  location: string | undefined,
  options: OpenOptions = {},
): Promise<OpenedCheckpoint> {
  const opened = await openModel(location, options);
  if (opened.model) return opened;
  throw new LapidaryError({
    what: 'this is an exported model, which cannot be compressed again',
    where: location,
    expected: 'a checkpoint: config.json and weights in safetensors',
    found: basename(opened.file),
    fix: 'give the model that it was made from; its README.md and recipe.yaml name it',
  });
}

/**
 * What most weights of a model are quantized to already, by its headers alone; undefined where they are floats, or where
 * nothing can be read: opening it says why.
 */
export async function storedGrid(
  location: string | undefined,
  { revision, progress }: OpenOptions = {},
): Promise<StoredGrid | undefined> {
  if (isShipped(location)) return undefined;
  try {
    const file = ggufFile(location!);
    if (file !== undefined) return ggufGrid(openGguf(file));
    if (exportedFile(location!) !== undefined) return undefined;
    return quantizedGrid((await openCheckpoint(location!, { revision, progress })).json);
  } catch (error) {
    if (error instanceof LapidaryError) return undefined;
    throw error;
  }
}

/** Without its tokenizer, which listings do not need. @throws LapidaryError when it is none of these */
export async function openWeights(
  model: string | undefined,
  { revision, progress, warn }: OpenOptions = {},
): Promise<OpenedWeights> {
  const location = model === undefined ? undefined : withoutAddress(model);
  if (isShipped(location)) {
    const checkpoint = await openCheckpoint(shipped.folder, { revision });
    return fromCheckpoint(shipped.name, checkpoint, warn);
  }
  const file = ggufFile(location!) ?? exportedFile(location!);
  if (file === undefined) {
    const checkpoint = await openCheckpoint(location!, { revision, progress, warn });
    return fromCheckpoint(basename(resolve(location!)), checkpoint, warn);
  }
  if (revision !== undefined) {
    throw new LapidaryError(
      {
        what: 'a revision was given for a file on this machine',
        where: file,
        expected: 'a hub id (org/name) where a revision is given',
        fix: 'leave the revision out',
      },
      ExitCode.usage,
    );
  }
  if (file.endsWith('.gguf')) return fromGguf(file, file === location ? ownFolder(file) : location, warn);
  const folder = folderOf(file);
  return { name: basename(folder), file, context: contextOf(folder) };
}

function fromCheckpoint(name: string, checkpoint: Checkpoint, warn: OpenOptions['warn']): OpenedWeights {
  const model = loadModel(checkpoint, warn);
  return { name, model, checkpoint, origin: checkpoint.origin, context: model.config.context };
}

/** @param folder that has this model alone, where there is such a one: its README.md and LICENSE are the model's */
function fromGguf(path: string, folder: string | undefined, warn: OpenOptions['warn']): OpenedWeights {
  const file = openGguf(path);
  const read = modelFromGguf(file, basename(path), warn);
  const model = { ...read, files: new Map([...read.files, ...legalFiles(folder)]) };
  const checkpoint = { tensors: floatTensors(model), identity: file.identity };
  return {
    name: basename(path, '.gguf'),
    model,
    checkpoint,
    origin: mergedOrigin(originFromGguf(file.metadata), folder === undefined ? {} : originFromFolder(folder)),
    fileBytes: statSync(path).size,
    context: model.config.context,
  };
}

/** Where a file is the one model of its folder, beside a card that names its license: what else stands there is its own. */
function ownFolder(file: string): string | undefined {
  if (!existsSync(file)) return undefined;
  const folder = dirname(resolve(file));
  const names = readdirSync(folder).filter((name) => /\.(gguf|safetensors|onnx|bin|pth?)$/.test(name));
  return names.length === 1 && originFromFolder(folder).license !== undefined ? folder : undefined;
}

function legalFiles(folder: string | undefined): [string, () => Uint8Array][] {
  const names = folder === undefined ? [] : readdirSync(folder).filter(isLegalFile);
  return names.map((name) => [name, () => readFileSync(join(folder!, name))]);
}

/** The GGUF file that a location means: itself, or the one in a folder that has no other weights. */
export function ggufFile(location: string): string | undefined {
  if (!existsSync(location) || !statSync(location).isDirectory())
    return location.endsWith('.gguf') ? location : undefined;
  const names = readdirSync(location);
  if (names.some((name) => name === 'onnx' || /\.(safetensors|onnx)$/.test(name))) return undefined;
  const files = names.filter((name) => name.endsWith('.gguf'));
  return files.length === 0 ? undefined : join(location, only(files, location, 'GGUF'));
}

/** The ONNX file that a location means; undefined where it means something else. */
function exportedFile(location: string): string | undefined {
  if (!existsSync(location)) return undefined;
  if (!statSync(location).isDirectory()) return location.endsWith('.onnx') ? location : undefined;
  const names = readdirSync(location);
  // A folder with weights of its own is a checkpoint that somebody exported beside.
  if (names.some((name) => name.endsWith('.safetensors'))) return undefined;
  const inner = join(location, 'onnx');
  const folder = existsSync(inner) && statSync(inner).isDirectory() ? inner : location;
  const files = readdirSync(folder).filter((name) => name.endsWith('.onnx'));
  if (files.length === 0 && folder === location) return undefined;
  const standard = files.length > 1 ? defaultFile(configOf(location)) : undefined;
  if (standard !== undefined && files.includes(standard)) return join(folder, standard);
  return join(folder, only(files, folder, 'ONNX'));
}

/** @throws LapidaryError unless there is one */
function only(files: readonly string[], folder: string, kind: string): string {
  if (files.length === 1) return files[0]!;
  throw new LapidaryError(
    {
      what: `the folder has ${files.length === 0 ? `no ${kind} file` : `several ${kind} files`}`,
      where: folder,
      expected: 'one',
      found: files.join(', ') || 'none',
      fix: 'name the file itself as MODEL',
    },
    ExitCode.usage,
  );
}

/** Where the settings of an ONNX file lie: beside it, or above its onnx folder. */
export function folderOf(file: string): string {
  const beside = dirname(resolve(file));
  return existsSync(join(beside, 'config.json')) ? beside : dirname(beside);
}

/** The settings that lie with an ONNX file, by name. */
export function settingsOf(file: string): Model['files'] {
  const folder = folderOf(file);
  const names = readdirSync(folder).filter((name) => /\.(json|jinja)$/.test(name));
  return new Map(names.map((name) => [name, () => readFileSync(join(folder, name))] as const));
}

function contextOf(folder: string): number {
  const json = configOf(folder);
  const context = json.max_position_embeddings ?? json.n_positions;
  if (Number.isSafeInteger(context) && (context as number) > 0) return context as number;
  throw new LapidaryError({
    what: 'the context length is not known',
    where: join(folder, 'config.json'),
    expected: 'JSON with max_position_embeddings or n_positions',
    fix: 'put config.json back beside the onnx folder',
  });
}

/** Of the embedding; any number where config.json does not say. */
function rowsOf(file: string): number {
  const rows = configOf(folderOf(file)).vocab_size;
  return typeof rows === 'number' ? rows : Number.POSITIVE_INFINITY;
}

/** Empty where it is missing or damaged: what is needed of it says so. */
function configOf(folder: string): Record<string, unknown> {
  const path = join(folder, 'config.json');
  try {
    return parseJsonObject(readFileSync(path), { where: path });
  } catch {
    return {};
  }
}
