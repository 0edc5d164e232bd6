/**
 * Checkpoints that are quantized already: config.json says in which format, each matrix is several tensors, and becomes
 * the encoding that they are.
 */

import { LapidaryError, located } from '../../base/errors.ts';
import { isObject, shortened } from '../../base/json.ts';
import type { Stored } from '../../base/tensor.ts';
import type { Encoding } from '../../encodings/encoding.ts';
import type { Json } from '../settings.ts';
import { awq } from './awq.ts';
import { compressedTensors } from './compressed-tensors.ts';
import { fp8 } from './fp8.ts';
import { gptq } from './gptq.ts';
import { mlx } from './mlx.ts';
import type { QuantizedFormat } from './format.ts';

const formats: readonly QuantizedFormat[] = [awq, compressedTensors, fp8, gptq, mlx];

/** What most weights of a model are quantized to, as far as headers tell. */
export interface StoredGrid {
  /** Of codes, which are evenly spaced. */
  readonly bits: number;
  /** Whether groups have offsets that need not be zero points. */
  readonly offsets: boolean;
  /** Whether scales are such as float16 holds. */
  readonly halfScales: boolean;
}

/** Undefined where config.json names no integers. */
export function quantizedGrid(json: Json): StoredGrid | undefined {
  const bits = formats.find(({ matches }) => matches(json))?.bits(json);
  return typeof bits === 'number' ? { bits, offsets: false, halfScales: true } : undefined;
}

export interface QuantizedWeights {
  /** By name without suffix. */
  readonly encodings: ReadonlyMap<string, Encoding>;
  /** What is stored as floats. */
  readonly tensors: ReadonlyMap<string, Stored>;
}

/**
 * The matrices of a quantized checkpoint; undefined where config.json does not call it one.
 * @throws LapidaryError on a format that is not known, settings that cannot be honoured, and tensors that do not agree
 */
export function readQuantized({
  json,
  tensors,
  source,
}: {
  readonly json: Json;
  readonly tensors: ReadonlyMap<string, Stored>;
  readonly source: string;
}): QuantizedWeights | undefined {
  const format = formats.find(({ matches }) => matches(json));
  if (!format) {
    if (json.quantization_config === undefined) return undefined;
    throw unknownFormat(json.quantization_config, source);
  }
  const read = format.open(json);
  const encodings = new Map<string, Encoding>();
  const rest = new Map(tensors);
  for (const [name, parts] of byMatrix(tensors)) {
    const encoding = named(name, () => read(name, parts));
    if (!encoding) continue;
    encodings.set(name, encoding);
    for (const suffix of parts.keys()) rest.delete(`${name}.${suffix}`);
  }
  return { encodings, tensors: rest };
}

/** Tensors by what stands before and after their name's last dot. */
function byMatrix(tensors: ReadonlyMap<string, Stored>): Map<string, Map<string, Stored>> {
  const matrices = new Map<string, Map<string, Stored>>();
  for (const [key, tensor] of tensors) {
    const dot = key.lastIndexOf('.');
    const [name, suffix] = [key.slice(0, Math.max(0, dot)), key.slice(dot + 1)];
    if (suffix === 'bias') continue;
    const parts = matrices.get(name) ?? new Map<string, Stored>();
    matrices.set(name, parts.set(suffix, tensor));
  }
  return matrices;
}

function named<T>(name: string, make: () => T): T {
  try {
    return make();
  } catch (error) {
    throw located(name, error);
  }
}

function unknownFormat(config: unknown, source: string): LapidaryError {
  const method = isObject(config) ? config.quant_method : config;
  return new LapidaryError({
    what: 'this checkpoint is quantized in a format that is not known',
    where: `${source}, config.json, "quantization_config"`,
    expected: formats.map(({ name }) => name).join(', '),
    found: shortened(method ?? 'no quant_method'),
    fix: 'start from the original model',
  });
}
