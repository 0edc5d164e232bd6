/**
 * What a MODEL argument is: nothing (the model that ships with the package), a folder or hub id with a checkpoint, a
 * folder that an export wrote, or one ONNX file of it. The exported ones are run as their users run them.
 */

import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ExitCode, LapidaryError } from './base/errors.ts';
import type { Progress } from './base/progress.ts';
import type { Checkpoint } from './io/checkpoint.ts';
import { openCheckpoint } from './io/checkpoint.ts';
import { loadModel } from './models/index.ts';
import type { Model } from './models/model.ts';
import type { Tokenizer } from './tokenizer/tokenizer.ts';
import { checkTokenizer, loadTokenizer } from './tokenizer/tokenizer.ts';

/** The folder of the model that ships with the package, and its text for calibration and evaluation. */
export const shipped = {
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

/** A checkpoint: weights that can be compressed. */
export interface OpenedCheckpoint extends Common {
  readonly model: Model;
  readonly checkpoint: Checkpoint;
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

/** @throws LapidaryError when it is none of these, or its tokenizer does not fit */
export async function openModel(location: string | undefined, options: OpenOptions = {}): Promise<Opened> {
  const file = location === undefined ? undefined : exportedFile(location);
  return file ? openExported(file) : openForCompression(location, options);
}

/** @throws LapidaryError when it is not a checkpoint */
export async function openForCompression(
  location: string | undefined,
  { revision, progress, warn }: OpenOptions = {},
): Promise<OpenedCheckpoint> {
  const checkpoint = await openCheckpoint(location ?? shipped.folder, { revision, progress });
  const model = loadModel(checkpoint, warn);
  const tokenizer = loadTokenizer(model.files);
  checkTokenizer(tokenizer, model.config.vocabulary);
  const name = location === undefined ? shipped.name : basename(location.replace(/\/+$/, ''));
  return { name, model, checkpoint, tokenizer, context: model.config.context };
}

/** The ONNX file that a location means; undefined where it means something else. */
function exportedFile(location: string): string | undefined {
  if (!existsSync(location)) return undefined;
  if (location.endsWith('.onnx') && statSync(location).isFile()) return location;
  const folder = join(location, 'onnx');
  if (!existsSync(folder)) return undefined;
  // A folder with weights of its own is a checkpoint that somebody exported beside.
  if (readdirSync(location).some((name) => name.endsWith('.safetensors'))) return undefined;
  const files = readdirSync(folder).filter((name) => name.endsWith('.onnx'));
  if (files.length === 1) return join(folder, files[0]!);
  throw new LapidaryError(
    {
      what: files.length === 0 ? 'the folder has no ONNX file' : 'the folder has several ONNX files',
      where: folder,
      expected: 'one',
      found: files.join(', ') || 'none',
      fix: 'name the file itself as MODEL',
    },
    ExitCode.usage,
  );
}

function openExported(file: string): OpenedFile {
  const folder = dirname(dirname(resolve(file)));
  const names = existsSync(folder) ? readdirSync(folder).filter((name) => /\.(json|jinja)$/.test(name)) : [];
  const files = new Map(names.map((name) => [name, () => readFileSync(join(folder, name))] as const));
  const tokenizer = loadTokenizer(files);
  return { name: basename(folder), file, tokenizer, context: contextOf(folder) };
}

function contextOf(folder: string): number {
  const path = join(folder, 'config.json');
  const json = existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>) : {};
  const context = json.max_position_embeddings ?? json.n_positions;
  if (typeof context === 'number') return context;
  throw new LapidaryError({
    what: 'the context length is not known',
    where: path,
    expected: 'max_position_embeddings or n_positions',
    fix: 'put config.json back beside the onnx folder',
  });
}
