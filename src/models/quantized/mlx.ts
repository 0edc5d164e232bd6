/**
 * MLX's affine format. weight uint32 [out, in * bits / 32]: the codes of a row as one stream of bits; scales and biases
 * [out, groups]; w = code * scale + bias. Where every bias is a whole number of scales it is a zero point, else an offset.
 */

import { floatToHalf, toFloat32 } from '../../base/half.ts';
import { isObject } from '../../base/json.ts';
import type { Stored } from '../../base/tensor.ts';
import { byteLength } from '../../base/tensor.ts';
import { affine } from '../../encodings/affine.ts';
import { dense } from '../../encodings/dense.ts';
import type { Encoding } from '../../encodings/encoding.ts';
import { unpackWords } from '../../encodings/words.ts';
import type { Json } from '../settings.ts';
import { wrongSetting } from '../settings.ts';
import type { QuantizedFormat } from './format.ts';
import { groupOf, integerEncoding, isBits, isGroup } from './integers.ts';
import type { MatrixTensors } from './tensors.ts';
import { floats, refuse, tensorOf, wordsOf } from './tensors.ts';

export const mlx: QuantizedFormat = {
  name: 'mlx',
  matches: ({ quantization: json }) => isObject(json) && 'group_size' in json,
  bits: ({ quantization }) => (quantization as Json).bits ?? 4,
  open({ quantization }) {
    const json = quantization as Json;
    const settings = readSettings(json, 'quantization');
    return (name, tensors) => {
      if (!tensors.has('scales')) return undefined;
      const own = json[name];
      return mlxEncoding(tensors, isObject(own) ? readSettings(own, `quantization["${name}"]`) : settings);
    };
  },
};

function readSettings(json: Json, where: string): MlxSettings {
  const [bits, group, mode] = [json.bits ?? 4, json.group_size ?? 64, json.mode ?? 'affine'];
  if (mode !== 'affine') throw wrongSetting(`${where}.mode`, 'affine', mode);
  if (!isWidth(bits)) throw wrongSetting(`${where}.bits`, 'a whole number from 2 to 8', bits);
  if (!isGroup(group) || group === -1) throw wrongSetting(`${where}.group_size`, 'a whole number', group);
  return { bits, group };
}

const isWidth = (bits: unknown): bits is number =>
  Number.isSafeInteger(bits) && (bits as number) >= 2 && (bits as number) <= 8;

export interface MlxSettings {
  readonly bits: number;
  readonly group: number;
}

/**
 * One matrix; as float16 values where its groups are none of ours.
 * @throws LapidaryError on tensors that do not agree with the settings or each other
 */
export function mlxEncoding(tensors: MatrixTensors, { bits, group }: MlxSettings): Encoding {
  const words = tensorOf(tensors, 'weight', ['uint32']);
  const [rows, columns] = [words.shape[0], Math.floor((words.shape[1] * 32) / bits)];
  if (columns % group !== 0) refuse('weight', `rows of whole groups of ${group}`, `${columns} weights`);
  const shape = [rows, columns / group];
  const scales = toFloat32(tensorOf(tensors, 'scales', floats, shape));
  const biases = toFloat32(tensorOf(tensors, 'biases', floats, shape));
  const codes = (): Uint8Array => unpackWords(wordsOf(words), columns, bits);
  const zeros = isBits(bits) ? zeroPoints(scales, biases, bits) : undefined;
  const size = groupOf(group, columns);
  if (zeros && isBits(bits) && size !== undefined)
    return integerEncoding({ rows, columns, bits, group: size, codes: codes(), scales, zeros });
  if (size !== undefined) {
    const width = bits > 4 ? 8 : bits > 2 ? 4 : 2;
    const count = 2 ** bits;
    return affine({ rows, columns, bits: width, group: size, codes: codes(), count, scales, biases });
  }
  return affineValues([rows, columns], group, codes, scales, biases);
}

/** Undefined where a bias is not the product of a code and its scale. */
function zeroPoints(scales: Float32Array, biases: Float32Array, bits: number): Uint8Array | undefined {
  const zeros = new Uint8Array(scales.length);
  for (let g = 0; g < scales.length; g++) {
    const zero = scales[g] === 0 ? 0 : Math.round(-biases[g] / scales[g]);
    if (zero < 0 || zero >= 2 ** bits || -zero * scales[g] !== biases[g]) return undefined;
    zeros[g] = zero;
  }
  return zeros;
}

function affineValues(
  shape: readonly [rows: number, columns: number],
  group: number,
  codes: () => Uint8Array,
  scales: Float32Array,
  biases: Float32Array,
): Encoding {
  const bytes = () => {
    const values = Float32Array.from(codes(), (code, i) => {
      const g = Math.floor(i / group);
      return code * scales[g] + biases[g];
    });
    return new Uint8Array(floatToHalf(values).buffer);
  };
  const tensor: Stored = { dtype: 'float16', shape, byteLength: byteLength('float16', shape), bytes };
  return dense(tensor);
}
