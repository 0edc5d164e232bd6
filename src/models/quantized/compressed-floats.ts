/**
 * Small floats as compressed-tensors stores them. FP8: weight F8_E4M3 [out, in], weight_scale for all, [out, 1], [out,
 * groups] or a number for each block of rows and columns; MXFP8 the same with E8M0 scales. FP4: weight_packed uint8
 * [out, in / 2], the even column in the low bits; weight_scale E8M0 [out, in / 32] (MXFP4), or F8_E4M3 [out, in / 16] with
 * weight_global_scale, by which they are divided (NVFP4).
 *
 * Inputs that the checkpoint would round to small floats are taken as they are.
 */

import { toFloat32 } from '../../base/half.ts';
import type { Encoding } from '../../encodings/encoding.ts';
import { groupSizes } from '../../encodings/grouped.ts';
import type { LevelGroup } from '../../encodings/levels.ts';
import { levels } from '../../encodings/levels.ts';
import { unpack } from '../../encodings/pack.ts';
import { singleScale } from './compressed-integers.ts';
import type { Scheme, WeightScheme } from './scheme.ts';
import type { MatrixTensors } from './tensors.ts';
import { floats, refuse, tensorOf } from './tensors.ts';

/** @throws LapidaryError on tensors that do not agree with the scheme or each other */
export function floatMatrix(tensors: MatrixTensors, { weights, inputs }: Scheme): Encoding {
  if (!weights.symmetric) return refuse('weights.symmetric', 'true', 'false');
  if (inputs && inputs.type !== 'float') return refuse('input_activations.type', '"float"', inputs.type);
  if (weights.bits === 4) return fourBits(tensors, weights);
  if (weights.bits === 8) return eightBits(tensors, weights);
  return refuse('weights.num_bits', '4 or 8', `${weights.bits}`);
}

function fourBits(tensors: MatrixTensors, { group, strategy }: WeightScheme): Encoding {
  const packed = tensorOf(tensors, 'weight_packed', ['uint8']);
  const [rows, columns] = [packed.shape[0], 2 * packed.shape[1]];
  const shared = { rows, columns, codes: unpack(packed.bytes(), columns / 2, columns, 4) };
  const shape = [rows, columns / group];
  if (strategy === 'group' && group === 32) {
    const scaleCodes = tensorOf(tensors, 'weight_scale', ['uint8'], shape).bytes();
    return levels({ ...shared, numbers: 'mxfp4', group, scaleCodes });
  }
  if (strategy === 'tensor_group' && group === 16) {
    const scaleCodes = tensorOf(tensors, 'weight_scale', ['float8e4m3'], shape).bytes();
    const global = singleScale(tensors, 'weight_global_scale');
    return levels({ ...shared, numbers: 'nvfp4', group, scaleCodes, global });
  }
  return refuse('weights', 'tensor groups of 16 (NVFP4) or groups of 32 (MXFP4)', `${strategy} ${group}`);
}

/**
 * @param suffix of the scales
 * @throws LapidaryError on tensors that do not agree with the scheme or each other
 */
export function eightBits(tensors: MatrixTensors, weights: WeightScheme, suffix = 'weight_scale'): Encoding {
  const { shape, bytes } = tensorOf(tensors, 'weight', ['float8e4m3']);
  const [rows, columns] = shape;
  const shared = { rows, columns, codes: bytes() };
  const group = columnGroup(weights);
  if (tensors.get(suffix)?.dtype === 'uint8') {
    const scaleCodes = tensorOf(tensors, suffix, ['uint8'], [rows, columns / 32]).bytes();
    return levels({ ...shared, numbers: 'mxfp8', group, scaleCodes });
  }
  const scales = floatScales(tensors, weights, shape, { group, suffix });
  return levels({ ...shared, numbers: 'fp8-e4m3', group, scales });
}

function columnGroup({ strategy, group, block }: WeightScheme): LevelGroup {
  if (strategy === 'tensor') return 'tensor';
  const size = block?.[1] ?? group;
  const known = ([-1, ...groupSizes] as const).find((each) => each === size);
  return known ?? refuse('weights.group_size', `${groupSizes.join(', ')} or whole rows`, `${size}`);
}

/** [rows, groups]; those of a block are repeated for its rows. */
function floatScales(
  tensors: MatrixTensors,
  { block }: WeightScheme,
  [rows, columns]: readonly number[],
  { group, suffix }: { readonly group: LevelGroup; readonly suffix: string },
): Float32Array {
  if (group === 'tensor') return Float32Array.of(singleScale(tensors, suffix));
  const groups = group === -1 ? 1 : Math.ceil(columns / group);
  if (!block) return toFloat32(tensorOf(tensors, suffix, floats, [rows, groups]));
  const blocks = toFloat32(tensorOf(tensors, suffix, floats, [Math.ceil(rows / block[0]), groups]));
  return Float32Array.from({ length: rows * groups }, (_, at) => {
    const row = Math.floor(at / groups);
    return blocks[Math.floor(row / block[0]) * groups + (at % groups)];
  });
}
