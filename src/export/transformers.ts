/**
 * A folder as transformers.js loads it: onnx/model*.onnx, config.json, tokenizer and generation settings; onnxruntime-genai
 * loads it too. Checked against @huggingface/transformers 4.3.1, which picks a file by its `dtype`.
 */

import { existsSync, readFileSync, statSync } from 'node:fs';
import { basename, join, relative } from 'node:path';
import { parseJsonObject } from '../base/json.ts';
import type { ActivationType } from '../encodings/dense.ts';
import type { AccuracyLevel } from '../encodings/encoding.ts';
import { onnxBytes, writeOnnx } from '../graph/onnx.ts';
import type { FileType, Loading } from '../io/onnx/transformers.ts';
import { fileNames, loadingOf } from '../io/onnx/transformers.ts';
import { writeFileAtomic } from '../io/output.ts';
import type { Model } from '../models/model.ts';
import type { ExportOptions } from './graph.ts';
import { genaiConfig } from './genai.ts';
import { exportGraph, levelsOf } from './graph.ts';
import { writeSettings } from './settings.ts';

export interface ExportedFile {
  /** Relative to the folder: "onnx/model_q4.onnx". */
  readonly path: string;
  /** As transformers.js names it: "q4". */
  readonly dtype: FileType;
  /** Of the model and its external data. */
  readonly bytes: number;
  readonly options: ExportOptions;
  /** Of its products with codes. */
  readonly levels: readonly AccuracyLevel[];
}

/** Types of models, of those that open here, that transformers.js (4.3.2) refuses to load. */
export const unknownToTransformers: ReadonlySet<string> = new Set(['mixtral', 'olmoe']);

export interface TransformersOptions {
  /** One file each; one in float32 where nothing is said. The first is what transformers.js loads by default. */
  readonly files?: readonly ExportOptions[];
  /**
   * What a single file is called that stands beside others of the same model, of which engines go on to load the first by
   * default; without it files are named by the width of most of their weights, and the folder is theirs.
   */
  readonly type?: FileType | undefined;
  /** Bytes of weights from which they are written beside the model; see `writeOnnx`. */
  readonly externalThreshold?: number;
}

/** Writes into `folder`, which may have other files. @returns the ONNX files */
export function exportTransformers(
  model: Model,
  folder: string,
  { files = [{}], type, externalThreshold }: TransformersOptions = {},
): readonly ExportedFile[] {
  const external: Record<string, number> = {};
  const exported = files.map((options): ExportedFile => {
    const dtype = type ?? dtypeOf(model, options.activations);
    const path = join(folder, 'onnx', fileNames[dtype]);
    const graph = exportGraph(model, options);
    const written = writeOnnx(graph, path, externalThreshold === undefined ? {} : { externalThreshold });
    if (written.length > 1) external[basename(path)] = written.length - 1;
    const bytes = written.reduce((sum, file) => sum + statSync(file).size, 0);
    return { path: relative(folder, path), dtype, bytes, options, levels: levelsOf(graph) };
  });
  writeFiles(model, folder, {
    first: exported[0],
    external,
    before: type === undefined ? undefined : loadingIn(folder),
  });
  return exported;
}

/** Bytes of the file that `exportTransformers` writes, and of each matrix in it; reads no weights. */
export function exportedBytes(
  model: Model,
  options: ExportOptions,
): { readonly bytes: number; readonly matrices: ReadonlyMap<string, number> } {
  const graph = exportGraph(model, options);
  const matrices = new Map<string, number>();
  for (const [tensor, { byteLength }] of graph.initializers) {
    const name = model.vectors.has(tensor)
      ? undefined
      : [...model.matrices.keys()].find((each) => tensor.startsWith(`${each}.`));
    if (name !== undefined) matrices.set(name, (matrices.get(name) ?? 0) + byteLength);
  }
  return { bytes: onnxBytes(graph, fileNames[dtypeOf(model, options.activations)]), matrices };
}

/** The name for the width that most of the quantized weights are stored in; three bits are stored in four. */
function dtypeOf(model: Model, activations: ActivationType = 'float32'): FileType {
  const half = activations === 'float16';
  const weights = new Map<number, number>();
  for (const { bits, shape } of model.matrices.values()) {
    if (bits < 16) weights.set(bits, (weights.get(bits) ?? 0) + shape[0] * shape[1]);
  }
  const [most] = [...weights].sort((a, b) => b[1] - a[1]);
  if (!most) return half ? 'fp16' : 'fp32';
  if (most[0] > 4) return 'q8';
  if (most[0] > 2) return half ? 'q4f16' : 'q4';
  if (most[0] > 1) return half ? 'q2f16' : 'q2';
  return half ? 'q1f16' : 'q1';
}

interface Written {
  /** What engines load by default. */
  readonly first: ExportedFile;
  /** Number of external files, by the model's file name. */
  readonly external: Readonly<Record<string, number>>;
  /** Of other types in the folder. */
  readonly before: Loading | undefined;
}

function writeFiles(model: Model, folder: string, { first, external, before }: Written): void {
  const all = { ...before?.use_external_data_format, ...external };
  const loading = {
    dtype: before?.dtype ?? first.dtype,
    ...(Object.keys(all).length > 0 ? { use_external_data_format: all } : {}),
  };
  writeSettings(model, folder, { 'transformers.js_config': loading });
  if (before) return;
  const genai = `${JSON.stringify(genaiConfig(model, first.path), null, 2)}\n`;
  writeFileAtomic(join(folder, 'genai_config.json'), Buffer.from(genai));
}

/** How transformers.js is to load a folder; undefined where nothing was written to it yet. */
function loadingIn(folder: string): Loading | undefined {
  const path = join(folder, 'config.json');
  return existsSync(path) ? loadingOf(parseJsonObject(readFileSync(path), { where: path })) : undefined;
}
