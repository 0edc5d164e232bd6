/** Grouped integers, with zero points or offsets, as MLX's affine format stores them; see src/models/quantized/mlx.ts for the layout. */

import { LapidaryError } from '../../base/errors.ts';
import { floatToHalf, toFloat32 } from '../../base/half.ts';
import type { Stored } from '../../base/tensor.ts';
import type { Encoding, EncodingAtRest } from '../../encodings/encoding.ts';
import { shiftedParts } from '../../encodings/shifted.ts';
import { packWords, wordCount } from '../../encodings/words.ts';
import type { Model } from '../../models/model.ts';
import type { CheckpointLayout } from './folder.ts';
import type { IntegerSizes } from './integers.ts';
import {
  checkExact,
  groupAmong,
  integersOf,
  integerSizes,
  made,
  refuse,
  regrouped,
  scalesOf,
  zerosOf,
} from './integers.ts';
import { mostCommon, quantizedSizes } from './kinds.ts';

/** Groups that MLX has kernels for. */
const mlxGroups = [128, 64, 32] as const;

/**
 * Weights that share a scale in MLX: the encoding's, or the largest that its groups are made of.
 * @throws LapidaryError where there is no such size
 */
export function mlxGroup(sizes: IntegerSizes): number {
  const { columns, group } = sizes;
  const found = groupAmong(sizes, mlxGroups);
  if (found !== undefined) return found;
  return refuse('MLX', sizes, {
    expected: 'groups of 32, 64 or 128 that fill a row',
    found: `${columns} weights in groups of ${group === -1 ? columns : group}`,
    fix: columns % 32 === 0 ? 'choose group: 32' : undefined,
  });
}

/** Undefined where it is neither grouped integers nor such with offsets. */
export const mlxSizes = (encoding: EncodingAtRest): IntegerSizes | undefined =>
  integerSizes(shiftedParts({ ...encoding, bits: 0 })?.base ?? encoding);

/** What code 0 stands for in each group of an encoding that has `mlxSizes`: [rows, groups]. */
function biasesOf(encoding: Encoding): Float32Array {
  const parts = shiftedParts(encoding);
  const base = parts?.base ?? encoding;
  const [scales, zeros] = [scalesOf(base), zerosOf(base)];
  const offsets = parts && toFloat32(parts.offsets);
  return scales.map((scale, g) => (offsets?.[g] ?? 0) - zeros[g] * scale);
}

/** @throws LapidaryError on scales and biases that float16 does not hold, of an encoding that has `mlxSizes` */
export function checkMlxExact(encoding: Encoding): void {
  checkExact('MLX', encoding, scalesOf(shiftedParts(encoding)?.base ?? encoding));
  checkExact('MLX', encoding, biasesOf(encoding));
}

/**
 * @returns weight, scales and biases (float16); undefined where the encoding is no grouped integers
 * @throws LapidaryError on groups that the format does not hold
 */
export function mlxTensors(encoding: Encoding): Map<string, Stored> | undefined {
  const sizes = mlxSizes(encoding);
  if (!sizes) return undefined;
  const base = shiftedParts(encoding)?.base ?? encoding;
  const { rows, columns, bits } = sizes;
  const group = mlxGroup(sizes);
  const half = (values: Float32Array) => floatToHalf(regrouped(values, sizes, group));
  const weight = () => packWords(integersOf(base).codes, columns, bits);
  const perRow = columns / group;
  return new Map([
    ['weight', made('uint32', [rows, wordCount(columns, bits)], weight)],
    ['scales', made('float16', [rows, perRow], () => half(scalesOf(base)))],
    ['biases', made('float16', [rows, perRow], () => half(biasesOf(encoding)))],
  ]);
}

/**
 * mlx-lm's settings: of most matrices, and by name of the others.
 * @throws LapidaryError on architectures that store matrices the other way around, which mlx-lm turns by their name
 */
export function mlxLayout(model: Model): CheckpointLayout {
  const { architecture, source } = model;
  if (architecture.transposed) {
    throw new LapidaryError({
      what: `mlx-lm does not load quantized checkpoints of ${architecture.modelType}`,
      where: source,
      fix: 'use --format onnx or gguf',
    });
  }
  const quantized = quantizedSizes(model, mlxSizes);
  const settingsOf = (sizes: IntegerSizes) => ({ group_size: mlxGroup(sizes), bits: sizes.bits });
  const common = mostCommon(quantized.values(), settingsOf) ?? { group_size: 64, bits: 4 };
  const others = [...quantized].filter(
    ([, sizes]) => JSON.stringify(settingsOf(sizes)) !== JSON.stringify(common),
  );
  const byName = Object.fromEntries(others.map(([name, sizes]) => [name, settingsOf(sizes)]));
  return {
    settings: { quantization: { ...common, mode: 'affine', ...byName } },
    type: `${common.bits}-bit`,
    tensorsOf: (_, encoding) => mlxTensors(encoding),
  };
}
