/**
 * A model as a folder that transformers and what is built on it read: config.json that says how matrices are quantized, the
 * weights in safetensors, and the files that travel with it.
 */

import { mkdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { toFloat32 } from '../../base/half.ts';
import type { Stored } from '../../base/tensor.ts';
import type { Encoding } from '../../encodings/encoding.ts';
import { writeFileAtomic } from '../../io/output.ts';
import { shardedBytes, writeSharded } from '../../io/safetensors/write.ts';
import { transposed } from '../../models/index.ts';
import type { Model } from '../../models/model.ts';
import { writeSettings } from '../settings.ts';
import type { FloatName } from './floats.ts';
import { asFloats } from './floats.ts';
import { made } from './integers.ts';

export type { FloatName } from './floats.ts';

/** How one format holds a model. */
export interface CheckpointLayout {
  /** Added to config.json: { quantization_config: {...} }. */
  readonly settings: Readonly<Record<string, unknown>>;
  /** What a matrix is stored as, by suffix ("qweight"); undefined: as "weight", in floats. */
  tensorsOf(name: string, encoding: Encoding): ReadonlyMap<string, Stored> | undefined;
  /** Other JSON files that its engines look for, by name. */
  readonly files?: Readonly<Record<string, unknown>> | undefined;
  /** What its users call it: "W4A16". */
  readonly type: string;
}

export interface WrittenCheckpoint {
  /** The weights, or the index of their shards; relative to the folder. */
  readonly path: string;
  /** Of the weights. */
  readonly bytes: number;
}

/** As the hub's own tools cut. */
const shardBytes = 5e9;

/** Writes into `folder`, which is made where it is not there, and may have other files. */
export async function writeCheckpoint(
  model: Model,
  folder: string,
  layout: CheckpointLayout,
  { floats, maxShardBytes = shardBytes }: { readonly floats: FloatName; readonly maxShardBytes?: number },
): Promise<WrittenCheckpoint> {
  mkdirSync(folder, { recursive: true });
  const names = await writeSharded(folder, weights(model, layout, floats), maxShardBytes);
  const write = (name: string, bytes: Uint8Array) => writeFileAtomic(join(folder, name), bytes);
  const json = (value: unknown) => new TextEncoder().encode(`${JSON.stringify(value, null, 2)}\n`);
  writeSettings(model, folder, { dtype: floats, torch_dtype: floats, ...layout.settings });
  for (const [name, content] of Object.entries(layout.files ?? {})) write(name, json(content));
  const bytes = names.reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
  return { path: names.at(-1)!, bytes };
}

/** Bytes of the weights that `writeCheckpoint` writes, and of each matrix; reads none. */
export function checkpointBytes(
  model: Model,
  layout: CheckpointLayout,
  floats: FloatName,
): { readonly bytes: number; readonly matrices: ReadonlyMap<string, number> } {
  const matrices = new Map<string, number>();
  for (const [name, encoding] of model.matrices) {
    const parts = partsOf(model, layout, name, encoding, floats);
    matrices.set(
      name,
      [...parts.values()].reduce((sum, { byteLength }) => sum + byteLength, 0),
    );
  }
  return { bytes: shardedBytes(weights(model, layout, floats), shardBytes), matrices };
}

const partsOf = (
  model: Model,
  layout: CheckpointLayout,
  name: string,
  encoding: Encoding,
  floats: FloatName,
): ReadonlyMap<string, Stored> =>
  layout.tensorsOf(name, encoding) ?? new Map([['weight', matrix(model, name, encoding, floats)]]);

function weights(model: Model, layout: CheckpointLayout, floats: FloatName): Map<string, Stored> {
  const tensors = new Map<string, Stored>();
  for (const [name, encoding] of model.matrices) {
    for (const [suffix, tensor] of partsOf(model, layout, name, encoding, floats))
      tensors.set(`${name}.${suffix}`, tensor);
  }
  for (const [name, tensor] of model.vectors) tensors.set(name, vectorAs(tensor, floats));
  return tensors;
}

/** As the architecture's checkpoints have it: [in, out] for some. */
function matrix({ architecture }: Model, name: string, encoding: Encoding, floats: FloatName): Stored {
  const weight = encoding.tensors.get('weight');
  const tensor =
    weight?.dtype === floats
      ? weight
      : made(floats, encoding.shape, () => asFloats(encoding.dense(), floats));
  return architecture.transposed?.(name) ? transposed(tensor) : tensor;
}

function vectorAs(tensor: Stored, floats: FloatName): Stored {
  return tensor.dtype === floats
    ? tensor
    : made(floats, tensor.shape, () => asFloats(toFloat32(tensor), floats));
}
