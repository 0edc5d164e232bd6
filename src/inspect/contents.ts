/**
 * What headers say is in a model, for one that is known here and for any other: sizes, weights, what travels with them. No
 * weight is read.
 */

import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { LapidaryError } from '../base/errors.ts';
import { elementCount } from '../base/tensor.ts';
import { encodedBytes } from '../encodings/encoding.ts';
import type { Encoding } from '../encodings/encoding.ts';
import type { Cost } from '../evaluate/cost.ts';
import { fileCost } from '../evaluate/cost.ts';
import { storedWeights } from '../evaluate/onnx-weights.ts';
import { openCheckpoint } from '../io/checkpoint.ts';
import { openGguf } from '../io/gguf/read.ts';
import { readOnnx } from '../io/onnx/reader.ts';
import type { Origin } from '../io/origin.ts';
import { mergedOrigin, originFromConfig, originFromFolder, originFromGguf } from '../io/origin.ts';
import { openSafetensors } from '../io/safetensors/read.ts';
import { costOf } from '../measure/measure.ts';
import { findArchitecture } from '../models/index.ts';
import type { Model } from '../models/model.ts';
import { readQuantized } from '../models/quantized/index.ts';
import type { OpenedWeights, OpenOptions } from '../open.ts';
import { folderOf, ggufFile, settingsOf } from '../open.ts';
import { readJson, templateText } from '../tokenizer/tokenizer.ts';
import type { InspectedTensor } from './tensor.ts';
import type { Settings } from './settings.ts';
import { settingsOfGguf, settingsOfJson, settingsOfModel } from './settings.ts';

export type Container = 'safetensors' | 'gguf' | 'onnx';

export interface Contents {
  readonly name: string;
  readonly container: Container;
  readonly settings: Settings;
  readonly tensors: readonly InspectedTensor[];
  readonly cost: Omit<Cost, 'multiplyAdds'> & Partial<Cost>;
  readonly chatTemplate: boolean;
  readonly origin: Origin;
  /** What wrote an ONNX file, by its own word. */
  readonly producer?: string | undefined;
  /** Where the model lies on this machine, with what stands beside it. */
  readonly folder?: string | undefined;
  /** Its own file there, where it has one. */
  readonly file?: string | undefined;
}

/** Of a model that Lapidary opens. @param location as it was opened by */
export function contentsOf(opened: OpenedWeights, location: string | undefined): Contents {
  if (opened.file !== undefined) return onnxContents(opened.file);
  const { name, model, origin = {} } = opened;
  // What several names share is stored once.
  const owners = new Map([...model.matrices].reverse().map(([key, encoding]) => [encoding, key]));
  const tensors = [
    ...[...owners].map(([encoding, key]) => matrixRow(key, encoding)),
    ...[...model.vectors].map(([key, { dtype, shape, byteLength }]) => row(key, shape, dtype, byteLength)),
  ];
  const isFile = location !== undefined && existsSync(location) && statSync(location).isFile();
  return {
    name,
    container: opened.fileBytes === undefined ? 'safetensors' : 'gguf',
    settings: settingsOfModel(model.config),
    tensors: sorted(tensors),
    cost: costOf(opened),
    chatTemplate: hasTemplate(model.files),
    origin,
    folder: isFile ? dirname(location) : location,
    file: isFile ? basename(location) : undefined,
  };
}

/** Of anything whose headers can be read. @throws LapidaryError on what is none of it */
export async function headersOf(location: string, options: OpenOptions = {}): Promise<Contents> {
  const gguf = ggufFile(location);
  if (gguf !== undefined) return ggufContents(gguf);
  if (location.endsWith('.onnx')) return onnxContents(location);
  if (location.endsWith('.safetensors') && existsSync(location))
    return folderContents(dirname(location), [basename(location)]);
  if (existsSync(location)) return folderContents(location);
  return folderContents((await openCheckpoint(location, options)).folder, undefined, basename(location));
}

function ggufContents(path: string): Contents {
  const file = openGguf(path);
  const tensors = [...file.tensors].map(([name, { shape, type, byteLength }]) =>
    row(name, shape, type.name, byteLength),
  );
  return {
    name: basename(path, '.gguf'),
    container: 'gguf',
    settings: settingsOfGguf(file),
    tensors,
    cost: { ...costOfRows(tensors), bytes: statSync(path).size },
    chatTemplate: file.metadata.has('tokenizer.chat_template'),
    origin: originFromGguf(file.metadata),
    folder: dirname(resolve(path)),
    file: basename(path),
  };
}

function onnxContents(path: string): Contents {
  const onnx = readOnnx(path);
  const tensors = storedWeights(onnx).weights;
  const above = folderOf(path);
  const folder = existsSync(join(above, 'config.json')) ? above : undefined;
  const files: Model['files'] = folder === undefined ? new Map() : settingsOf(path);
  const json = readable(() => readJson(files, 'config.json')) ?? {};
  const most = onnx.initializers.length;
  const ours = readable(() => settingsOfModel(findArchitecture(json).configure(json, most)));
  return {
    name: folder === undefined ? basename(path, '.onnx') : basename(folder),
    container: 'onnx',
    settings: ours ?? settingsOfJson(json, most),
    tensors,
    // A graph without weights has no bits of them.
    cost: tensors.length === 0 ? { ...fileCost(path), bitsPerWeight: 0 } : fileCost(path),
    chatTemplate: hasTemplate(files),
    origin: mergedOrigin(folder === undefined ? {} : originFromFolder(folder), originFromConfig(json)),
    producer: onnx.producer || undefined,
    folder,
    file: basename(path),
  };
}

/** @param names of the safetensors files that are meant; all without it */
function folderContents(folder: string, names?: readonly string[], called?: string): Contents {
  const inside = readdirSync(folder);
  const shards = names ?? inside.filter((name) => name.endsWith('.safetensors')).sort();
  if (shards.length === 0) throw new LapidaryError({ what: 'no safetensors files', where: folder });
  const opened = shards.map((name) => openSafetensors(join(folder, name)));
  const files = new Map(inside.map((name) => [name, () => readFileSync(join(folder, name))] as const));
  const json = readable(() => readJson(files, 'config.json')) ?? {};
  const stored = new Map(opened.flatMap(({ tensors }) => [...tensors]));
  const quantized = readable(() => readQuantized({ json, tensors: stored, source: folder }));
  const tensors = sorted([
    ...[...(quantized?.encodings ?? [])].map(([name, encoding]) => matrixRow(name, encoding)),
    ...[...(quantized?.tensors ?? stored)].map(([name, { shape, dtype, byteLength }]) =>
      row(name, shape, dtype, byteLength),
    ),
    ...opened.flatMap(({ unsupported }) =>
      [...unsupported].map(([name, { shape, dtype, byteLength }]) => row(name, shape, dtype, byteLength)),
    ),
  ]);
  return {
    name: called ?? basename(resolve(names ? join(folder, names[0]!) : folder)),
    container: 'safetensors',
    settings: settingsOfJson(json, tensors.length),
    tensors,
    cost: costOfRows(tensors),
    chatTemplate: hasTemplate(files),
    origin: mergedOrigin(originFromFolder(folder), originFromConfig(json)),
    folder,
  };
}

function row(name: string, shape: readonly number[], label: string, bytes: number): InspectedTensor {
  return { name, shape, label, parameters: elementCount(shape), bytes };
}

function matrixRow(name: string, encoding: Encoding): InspectedTensor {
  const parts = [...encoding.tensors.keys()];
  return {
    ...row(name, encoding.shape, encoding.label, encodedBytes(encoding)),
    ...(parts.length > 1 ? { parts } : {}),
  };
}

function costOfRows(tensors: readonly InspectedTensor[]): Contents['cost'] {
  const sum = (value: (tensor: InspectedTensor) => number) =>
    tensors.reduce((total, tensor) => total + value(tensor), 0);
  const [parameters, bytes] = [sum((tensor) => tensor.parameters), sum((tensor) => tensor.bytes)];
  return { bytes, parameters, bitsPerWeight: parameters === 0 ? 0 : (8 * bytes) / parameters };
}

const sorted = (tensors: readonly InspectedTensor[]): InspectedTensor[] =>
  [...tensors].sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true }));

const hasTemplate = (files: Model['files']): boolean =>
  readable(() => templateText(files, readJson(files, 'tokenizer_config.json'))) !== undefined;

/** What is damaged beside the weights is as if it were not there. */
function readable<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (error instanceof LapidaryError) return undefined;
    throw error;
  }
}
