/**
 * A checkpoint as Hugging Face lays it out: config.json, weights in one safetensors file or several with an index, and
 * the files that travel with it. Opened from a folder or by hub id; weights are read when asked for.
 */

import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { ExitCode, LapidaryError } from '../base/errors.ts';
import { isObject, parseJsonObject, shortened } from '../base/json.ts';
import type { Progress } from '../base/progress.ts';
import type { Stored } from '../base/tensor.ts';
import { addFile } from './hash.ts';
import { isHubId } from './hub-id.ts';
import type { Origin } from './origin.ts';
import { isLegalFile, mergedOrigin, originFromConfig, originFromFolder } from './origin.ts';
import { nearestPath } from './nearby.ts';
import { systemError } from './system-error.ts';
import type { FileIdentity } from './range.ts';
import { identify, readRange, withKnownFile } from './range.ts';
import { duplicateKey } from './safetensors/header.ts';
import { openSafetensors } from './safetensors/read.ts';

export interface Checkpoint {
  /** For model cards: the folder's name, or "org/name@commit". */
  readonly source: string;
  /** Where its files lie on this machine. */
  readonly folder: string;
  /** config.json. */
  readonly json: Readonly<Record<string, unknown>>;
  /** Every weight by name, over all shards. */
  readonly tensors: ReadonlyMap<string, Stored>;
  /** Files that travel unchanged (tokenizer.json, generation_config.json, LICENSE, ...), by name. */
  readonly files: ReadonlyMap<string, () => Uint8Array>;
  /** What it says of itself; the hub id that it was opened by is its base model. */
  readonly origin: Origin;
  /** sha256 over the names and bytes of config.json and the weight files, in hexadecimal; reads them once. */
  identity(): string;
}

export interface CheckpointOptions {
  /** Branch, tag or commit of a hub id; "main" unless said. */
  readonly revision?: string | undefined;
  readonly progress?: Progress | undefined;
  /** Told where an id is one letter from a folder that is here. */
  readonly warn?: ((line: string) => void) | undefined;
}

const single = 'model.safetensors';
const index = 'model.safetensors.index.json';
const config = 'config.json';

/** What travels with a model besides its weights. */
const travelling = new Set([
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'tokenizer.model',
  'vocab.json',
  'vocab.txt',
  'merges.txt',
  'chat_template.jinja',
  'chat_template.json',
  'generation_config.json',
]);
/** A folder of chat templates by name. */
const templates = 'additional_chat_templates';
const isTemplate = (path: string): boolean =>
  path.startsWith(`${templates}/`) && /^\w[\w.-]*\.jinja$/.test(path.slice(templates.length + 1));
const travels = (name: string): boolean => travelling.has(name) || isLegalFile(name) || isTemplate(name);

/** Read for what it says of the model's origin; what is made of the model has one of its own. */
const readme = 'README.md';

/** A JSON file larger than this is not one of ours. */
const maxJsonBytes = 256 * 2 ** 20;

/**
 * @param location a folder, or a hub id ("org/name"), which is downloaded into the standard cache
 * @throws LapidaryError that says what is missing or wrong, and where.
 */
export async function openCheckpoint(location: string, options: CheckpointOptions = {}): Promise<Checkpoint> {
  if (existsSync(location)) {
    if (!statSync(location).isDirectory()) refuseFile(location);
    if (options.revision !== undefined) {
      throw new LapidaryError(
        {
          what: 'a revision was given for a folder',
          where: location,
          expected: 'a hub id (org/name) where a revision is given',
          fix: 'leave the revision out',
        },
        ExitCode.usage,
      );
    }
    return readable(location, () => openFolder(location, basename(resolve(location))));
  }
  const near = nearestPath(location);
  if (!isHubId(location)) throw nowhere(location, near);
  if (near !== undefined)
    options.warn?.(`there is no folder ${location} here, only ${near}: taken for a model on the hub`);
  const { downloadSnapshot } = await import('./hub.ts');
  const snapshot = await downloadSnapshot(location, {
    ...options,
    folders: [templates],
    choose: (names) => [
      config,
      ...weightFiles(names, location),
      ...names.filter((name) => travels(name) || name === readme),
    ],
  });
  return readable(snapshot.folder, () =>
    openFolder(snapshot.folder, `${location}@${snapshot.commit}`, location),
  );
}

function nowhere(location: string, near: string | undefined): LapidaryError {
  return new LapidaryError({
    what: 'neither a folder nor a hub id',
    where: location,
    expected: 'a folder that exists, or a model on the hub written org/name',
    found: `no folder at ${resolve(location)}, and the name is not org/name`,
    fix: near === undefined ? 'check the spelling, or give the whole path' : `did you mean "${near}"?`,
  });
}

function readable<T>(where: string, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    throw systemError(cause, where);
  }
}

/** @param id where it is from the hub */
function openFolder(folder: string, source: string, id?: string): Checkpoint {
  const names = readdirSync(folder);
  const shards = shardsOf(folder, weightFiles(names, folder));
  if (!names.includes(config)) {
    throw new LapidaryError({
      what: `no ${config}`,
      where: folder,
      expected: 'config.json beside the weights: it says which architecture they are',
      found: listed(names),
      fix: 'give the folder that holds the whole checkpoint',
    });
  }
  const json = readJson(join(folder, config));
  const known = (name: string) => identify(join(folder, name));
  const { tensors, weights } = collectTensors(folder, shards);
  const hashed = [known(config), ...(names.includes(single) ? [] : [known(index)]), ...weights];
  const inner = names.includes(templates) && statSync(join(folder, templates)).isDirectory();
  const named = inner ? readdirSync(join(folder, templates)).map((name) => `${templates}/${name}`) : [];
  const travellers = [...names, ...named].filter(travels).map((name) => [name, known(name)] as const);
  let identity: string | undefined;
  return {
    source,
    folder,
    json,
    tensors,
    origin: mergedOrigin({ baseModel: id }, originFromFolder(folder), originFromConfig(json)),
    files: new Map(travellers.map(([name, file]) => [name, () => readKnown(file)])),
    identity: () => {
      identity ??= hashFiles(hashed);
      return identity;
    },
  };
}

/** The files of a listing that hold the weights; a listing without any is explained. */
function weightFiles(names: readonly string[], where: string): string[] {
  if (names.includes(single)) return [single];
  if (names.includes(index))
    return [index, ...names.filter((name) => /^[\w.-]+-of-\d+\.safetensors$/.test(name))];
  const pickles = names.filter(
    (name) =>
      /\.(bin|pt|pth|pkl|pickle|ckpt)$/.test(name) &&
      !/^training_args|^optimizer|^scheduler|^rng_state/.test(name),
  );
  if (pickles.length > 0) {
    throw new LapidaryError({
      what: 'the weights are pickle files, which Lapidary does not open: reading one runs whatever code it holds',
      where,
      expected: `${single}, or ${index} and its shards`,
      found: listed(pickles),
      fix: 'use the safetensors version of the model, or convert it where you trust it: AutoModelForCausalLM.from_pretrained(folder).save_pretrained(out)',
    });
  }
  throw new LapidaryError({
    what: 'no weights here',
    where,
    expected: `${single}, or ${index} and its shards`,
    found: listed(names),
    fix: 'give the folder or hub id of a model in safetensors',
  });
}

interface Shards {
  readonly files: readonly string[];
  /** Tensor name to file, where there is an index. */
  readonly map?: ReadonlyMap<string, string>;
}

function shardsOf(folder: string, weights: readonly string[]): Shards {
  if (weights[0] === single) return { files: [single] };
  const path = join(folder, index);
  const map = readJson(path).weight_map;
  const refuse = (what: string, expected: string, found: unknown): never => {
    const fix = 'the index is damaged; fetch the checkpoint again';
    throw new LapidaryError({ what, where: path, expected, found: shortened(found), fix });
  };
  if (!isObject(map)) {
    return refuse('no weight_map', 'an object from tensor names to file names', map);
  }
  for (const [name, file] of Object.entries(map)) {
    if (typeof file !== 'string')
      return refuse(`no file for tensor "${shortened(name)}"`, 'a file name', file);
    if (!/^[^/\\:\p{Cc}]+\.safetensors$/u.test(file)) {
      return refuse(
        `tensor "${shortened(name)}" lies outside the folder or in no safetensors file`,
        'the plain name of a .safetensors file',
        file,
      );
    }
  }
  const files = [...new Set(Object.values(map as Record<string, string>))].sort();
  if (files.length === 0) refuse('the index is empty', 'at least one tensor', map);
  return { files, map: new Map(Object.entries(map as Record<string, string>)) };
}

function collectTensors(
  folder: string,
  { files, map }: Shards,
): { readonly tensors: ReadonlyMap<string, Stored>; readonly weights: readonly FileIdentity[] } {
  const tensors = new Map<string, Stored>();
  const weights: FileIdentity[] = [];
  const origin = new Map<string, string>();
  for (const file of files) {
    const path = join(folder, file);
    if (!existsSync(path)) {
      throw new LapidaryError({
        what: 'a shard is missing',
        where: path,
        expected: `${files.length} files that ${index} names`,
        found: `no ${file}`,
        fix: 'fetch the checkpoint again, or copy the missing file beside the others',
      });
    }
    const opened = openSafetensors(path);
    weights.push(opened.identity);
    for (const [name, { dtype, shape }] of opened.unsupported) {
      throw new LapidaryError({
        what: `tensor "${name}" [${shape.join(', ')}] is ${dtype}, which Lapidary does not compute with yet`,
        where: path,
        expected: 'F32, F16 or BF16 weights',
        found: `${opened.unsupported.size} tensors like it`,
        fix: 'use the bf16 or fp16 version of the model',
      });
    }
    for (const [name, tensor] of opened.tensors) {
      const other = origin.get(name);
      if (other !== undefined) {
        throw new LapidaryError({
          what: `tensor "${name}" is in two shards`,
          where: path,
          expected: 'every tensor once',
          found: `${other} and ${file}`,
          fix: 'fetch the checkpoint again',
        });
      }
      origin.set(name, file);
      tensors.set(name, tensor);
    }
  }
  for (const [name, file] of map ?? []) {
    if (origin.get(name) !== file) {
      throw new LapidaryError({
        what: `the index and the shards disagree about tensor "${shortened(name)}"`,
        where: join(folder, index),
        expected: `it in ${file}`,
        found: origin.has(name) ? `it in ${origin.get(name)}` : 'it in no shard',
        fix: 'fetch the checkpoint again',
      });
    }
  }
  return { tensors, weights };
}

/** A JSON object from a file, its duplicate keys refused. */
function readJson(path: string): Record<string, unknown> {
  const size = statSync(path).size;
  const fix = 'fetch the file again';
  const refuse = (found: string): never => {
    throw new LapidaryError({
      what: 'not a JSON object',
      where: path,
      expected: 'one JSON object',
      found,
      fix,
    });
  };
  if (size > maxJsonBytes) return refuse(`${size} bytes`);
  const text = readFileSync(path, 'utf8').replace(/^\uFEFF/, '');
  const value = parseJsonObject(text, { where: path, fix });
  const twice = duplicateKey(text);
  if (twice !== undefined) return refuse(`the key "${shortened(twice)}" twice`);
  return value;
}

function refuseFile(path: string): never {
  throw new LapidaryError({
    what: 'a file where a model folder is needed',
    where: path,
    expected: 'the folder that holds config.json and the safetensors files',
    found: basename(path),
    fix: existsSync(resolve(path, '..', config))
      ? `give the folder: ${resolve(path, '..')}`
      : 'give the folder of a model, its hub id, or a .gguf or .onnx file',
  });
}

/** The whole file, where it is still the one that was opened. */
function readKnown(known: FileIdentity): Uint8Array {
  return withKnownFile(known, 'readable', (file) => readRange(file, 0, known.size, known.path));
}

/** Streams the files through sha256, each after its name. */
function hashFiles(files: readonly FileIdentity[]): string {
  const hash = createHash('sha256');
  for (const file of files) {
    hash.update(`${basename(file.path)}\n`);
    addFile(hash, file);
    hash.update('\n');
  }
  return hash.digest('hex');
}

function listed(names: readonly string[]): string {
  if (names.length === 0) return 'an empty folder';
  const some = [...names].sort().slice(0, 10).join(', ');
  return names.length > 10 ? `${some} and ${names.length - 10} more` : some;
}
