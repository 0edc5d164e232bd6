/** The architectures, and the way from a checkpoint to a model. */

import { LapidaryError, located } from '../base/errors.ts';
import { quoted } from '../base/json.ts';
import type { Stored } from '../base/tensor.ts';
import { byteLength } from '../base/tensor.ts';
import { dense } from '../encodings/dense.ts';
import type { Encoding } from '../encodings/encoding.ts';
import { Graph } from '../graph/graph.ts';
import { buildWhole, plainScope } from './build.ts';
import { gpt2 } from './gpt2.ts';
import { llama } from './llama.ts';
import { mistral } from './mistral.ts';
import type { Architecture, Model } from './model.ts';
import { qwen2 } from './qwen2.ts';
import { readQuantized } from './quantized/index.ts';
import { qwen3 } from './qwen3.ts';
import type { Json } from './settings.ts';

export const architectures: readonly Architecture[] = [gpt2, llama, mistral, qwen2, qwen3];

/** @throws LapidaryError on a model_type that is not known, with the list of those that are. */
export function findArchitecture(json: Json): Architecture {
  const found = architectures.find(({ modelType }) => modelType === json.model_type);
  if (found) return found;
  throw new LapidaryError({
    what: 'this architecture is not known',
    where: 'config.json, "model_type"',
    expected: architectures.map(({ modelType }) => modelType).join(', '),
    found: quoted(json.model_type),
  });
}

/** What `loadModel` needs of a checkpoint. */
export interface Weights {
  readonly source: string;
  readonly json: Json;
  readonly tensors: ReadonlyMap<string, Stored>;
  /** Matrices that are encoded already, by name without ".weight"; as [out, in] whatever the architecture stores. */
  readonly encodings?: ReadonlyMap<string, Encoding>;
  readonly files: Model['files'];
}

/**
 * A checkpoint as a model, of dense matrices or of the encodings that it is quantized in. The architecture is built once without running it, so that every tensor
 * it asks for is known to be there in the right shape; no dense tensor's bytes are read.
 * @param warn told in one line about tensors that nothing uses
 * @throws LapidaryError on a missing or misshapen tensor, by name, and on a configuration that cannot be honoured
 */
export function loadModel(checkpoint: Weights, warn: (line: string) => void = () => {}): Model {
  const { json, source, files } = checkpoint;
  const architecture = findArchitecture(json);
  const quantized = readQuantized(checkpoint);
  const { tensors, encodings = new Map<string, Encoding>() } = quantized ?? checkpoint;
  // No layer is without a tensor.
  const mostLayers = tensors.size + encodings.size;
  const config = architecture.configure(quantized ? withoutQuantization(json) : json, mostLayers);
  const unused = new Set([...tensors.keys(), ...encodings.keys()]);
  const find = <T>(among: ReadonlyMap<string, T>, name: string) => {
    const prefix = architecture.omittedPrefix;
    const bare = prefix && name.startsWith(prefix) ? name.slice(prefix.length) : name;
    const key = among.has(name) ? name : bare;
    unused.delete(key);
    return among.get(key);
  };
  const vectors = collector((name) => find(tensors, name));
  const matrices = collector((name): Encoding | undefined => {
    const encoding = find(encodings, name);
    if (encoding) return encoding;
    const tensor = find(tensors, `${name}.weight`);
    return tensor && named(name, () => dense(architecture.transposed?.(name) ? transposed(tensor) : tensor));
  });
  const graph = new Graph('inputs');
  const scope = plainScope(graph, config, { matrices, vectors }, { time: 'time', longest: 1 });
  buildWhole(architecture, scope, graph.input('ids', 'int64', ['batch', 'time']));
  if (unused.size > 0) warn(unusedLine(source, [...unused]));
  return { architecture, config, matrices: matrices.found, vectors: vectors.found, files, source };
}

/** What is written again says itself how it is quantized. */
function withoutQuantization(json: Json): Json {
  const isOther = ([key]: [string, unknown]) => key !== 'quantization_config' && key !== 'quantization';
  return Object.fromEntries(Object.entries(json).filter(isOther));
}

/** Looks things up and keeps what it gave. */
function collector<T>(find: (name: string) => T | undefined) {
  const found = new Map<string, T>();
  const get = (name: string) => {
    const value = found.get(name) ?? find(name);
    if (value !== undefined) found.set(name, value);
    return value;
  };
  return { found, get };
}

/** Encodings know a tensor, not its name. */
function named<T>(name: string, make: () => T): T {
  try {
    return make();
  } catch (error) {
    throw located(`${name}.weight`, error);
  }
}

function unusedLine(source: string, names: readonly string[]): string {
  const shown = names.slice(0, 4).join(', ');
  const more = names.length > 4 ? ` and ${names.length - 4} more` : '';
  return `${source}: nothing uses ${shown}${more}`;
}

/** [in, out] as [out, in], turned each time the bytes are read. */
export function transposed(tensor: Stored): Stored {
  if (tensor.shape.length !== 2) return tensor;
  const [rows, columns] = tensor.shape;
  const shape = [columns, rows];
  const bytes = () => {
    const from = tensor.bytes();
    const size = from.byteLength / (rows * columns);
    const to = new Uint8Array(from.byteLength);
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        const [source, target] = [(row * columns + column) * size, (column * rows + row) * size];
        for (let i = 0; i < size; i++) to[target + i] = from[source + i];
      }
    }
    return to;
  };
  return { dtype: tensor.dtype, shape, byteLength: byteLength(tensor.dtype, shape), bytes };
}
