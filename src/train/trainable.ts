/**
 * Tensors of a model that a method trains, whichever it names: the weights of matrices that are floats, the scales of
 * grouped integers whose codes stay, the weights of norms, and other vectors. They become inputs of graphs, float32, which
 * the method writes to between two runs.
 */

import { floatToBfloat, floatToHalf, toFloat32 } from '../base/half.ts';
import type { Stored } from '../base/tensor.ts';
import { stored } from '../base/tensor.ts';
import type { Changes } from '../contract/method.ts';
import { dense, denseValues } from '../encodings/dense.ts';
import type { Encoding } from '../encodings/encoding.ts';
import type { Model } from '../models/model.ts';
import type { Student } from './passes.ts';
import { tunable } from './scales.ts';

export interface TrainableTensor {
  /** "norms": weights of those of the residual stream; "vectors": all others, as biases. */
  readonly kind: 'weights' | 'scales' | 'norms' | 'vectors';
  /** Of the matrix, or of the vector. */
  readonly name: string;
  /** Undefined: of norms before the head and exits. */
  readonly layer: number | undefined;
}

export interface Trainable extends Student {
  /** What has been trained, as it is now, in the types that it was stored in; vectors in float32. */
  finished(): Changes;
}

interface Replaced {
  /** What graphs multiply by. */
  readonly encoding: Encoding;
  /** Its input there, behind the matrix's name. */
  readonly input: 'weight' | 'scales';
  readonly values: Float32Array;
  finished(): Encoding;
}

/**
 * The model with the tensors that are asked for as inputs of its graphs. Tables and the head stay as they are, and so does
 * what several names share: each would get values of its own.
 */
export function trainable(model: Model, asks: (tensor: TrainableTensor) => boolean): Trainable {
  const { architecture, config } = model;
  const replaced = new Map<string, Replaced>();
  const vectors = new Map<string, Float32Array>();
  const take = (tensor: TrainableTensor) => {
    if (asks(tensor)) vectors.set(tensor.name, toFloat32(model.vectors.get(tensor.name)!).slice());
  };
  const shared = sharedIn(model);
  for (const layer of config.layers.keys()) {
    const norms = architecture.structure(config, layer).norms.map(({ weight }) => weight);
    for (const name of norms) take({ kind: 'norms', name, layer });
    const prefix = `${architecture.layerName(layer)}.`;
    for (const [name, encoding] of model.matrices) {
      if (!name.startsWith(prefix) || shared.has(encoding)) continue;
      const kind = encoding.plain ? 'weights' : 'scales';
      const found = asks({ kind, name, layer }) ? replacing(encoding) : undefined;
      if (found) replaced.set(name, found);
    }
    for (const name of model.vectors.keys())
      if (name.startsWith(prefix) && !norms.includes(name)) take({ kind: 'vectors', name, layer });
  }
  const { norm, exits } = architecture.around(config);
  for (const { weight: name } of [norm, ...exits]) take({ kind: 'norms', name, layer: undefined });
  const asStored = (): [string, Stored][] =>
    [...vectors].map(([name, values]) => [name, stored('float32', model.vectors.get(name)!.shape, values)]);
  return {
    model: {
      ...model,
      matrices: new Map([
        ...model.matrices,
        ...[...replaced].map(([name, { encoding }]) => [name, encoding] as const),
      ]),
      vectors: new Map([...model.vectors, ...asStored()]),
    },
    parameters: new Map([
      ...[...replaced].map(([name, { input, values }]) => [`${name}.${input}`, values] as const),
      ...vectors,
    ]),
    finished: () => ({
      matrices: new Map([...replaced].map(([name, each]) => [name, each.finished()])),
      vectors: new Map(asStored()),
    }),
  };
}

function sharedIn({ matrices }: Model): ReadonlySet<Encoding> {
  const seen = new Set<Encoding>();
  return new Set([...matrices.values()].filter((encoding) => seen.size === seen.add(encoding).size));
}

function replacing(encoding: Encoding): Replaced | undefined {
  if (!encoding.plain) {
    const found = tunable(encoding);
    return found && { ...found, input: 'scales', values: found.scales };
  }
  const { dtype } = encoding.plain;
  const values = encoding.dense();
  return {
    encoding: denseValues(values, ...encoding.shape),
    input: 'weight',
    values,
    finished: () => dense(stored(dtype, encoding.shape, asType(dtype, values))),
  };
}

/** @param dtype of a dense matrix */
function asType(dtype: Stored['dtype'], values: Float32Array): ArrayBufferView {
  if (dtype === 'float16') return floatToHalf(values);
  return dtype === 'bfloat16' ? floatToBfloat(values) : values.slice();
}
