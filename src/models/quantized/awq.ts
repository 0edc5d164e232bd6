/**
 * AutoAWQ's checkpoint format, version "gemm", four bits. qweight int32 [in, out / 8], qzeros int32 [groups, out / 8],
 * scales [groups, out]; w = (code - zero) * scale. A word holds eight columns in an order of its own.
 */

import { toFloat32 } from '../../base/half.ts';
import { isObject } from '../../base/json.ts';
import type { Encoding } from '../../encodings/encoding.ts';
import { turned } from '../../encodings/words.ts';
import type { Json } from '../settings.ts';
import { wrongSetting } from '../settings.ts';
import type { QuantizedFormat } from './format.ts';
import type { Integers } from './integers.ts';
import { groupOf, halfEncoding, integerEncoding, isGroup } from './integers.ts';
import type { MatrixTensors } from './tensors.ts';
import { floats, tensorOf, wordsOf } from './tensors.ts';

export const awq: QuantizedFormat = {
  name: 'awq',
  matches: ({ quantization_config: config }) => isObject(config) && config.quant_method === 'awq',
  bits: () => 4,
  open({ quantization_config: config }) {
    const json = config as Json;
    const key = 'quantization_config';
    const version = json.version ?? json.format ?? 'gemm';
    if (`${version}`.toLowerCase() !== 'gemm') throw wrongSetting(`${key}.version`, 'gemm', version);
    const bits = json.bits ?? json.w_bit ?? 4;
    if (bits !== 4) throw wrongSetting(`${key}.bits`, '4', bits);
    const group = json.group_size ?? json.q_group_size ?? 128;
    if (!isGroup(group)) throw wrongSetting(`${key}.group_size`, '-1 or a whole number above 0', group);
    return (_, tensors) => (tensors.has('qweight') ? awqEncoding(tensors, { group }) : undefined);
  },
};

/** Which of a word's eight columns each of its nibbles is of, lowest bits first. */
export const awqOrder = [0, 2, 4, 6, 1, 3, 5, 7] as const;

/** Codes of eight columns a word. */
export const awqColumns = awqOrder.length;

/**
 * One matrix.
 * @param settings.group inputs that share a scale; -1 for all
 * @throws LapidaryError on tensors that do not agree with the settings or each other
 */
export function awqEncoding(tensors: MatrixTensors, { group }: { readonly group: number }): Encoding {
  const words = tensorOf(tensors, 'qweight', ['int32']);
  const [columns, rows] = [words.shape[0], words.shape[1] * awqColumns];
  const groups = group === -1 ? 1 : Math.ceil(columns / group);
  const zeros = tensorOf(tensors, 'qzeros', ['int32'], [groups, words.shape[1]]);
  const scales = tensorOf(tensors, 'scales', floats, [groups, rows]);
  const read = (): Integers => ({
    rows,
    columns,
    bits: 4,
    group,
    codes: turned(unpackAwq(wordsOf(words)), rows),
    scales: turned(toFloat32(scales), rows),
    zeros: turned(unpackAwq(wordsOf(zeros)), rows),
  });
  const size = groupOf(group, columns);
  return size === undefined
    ? halfEncoding([rows, columns], read)
    : integerEncoding({ ...read(), group: size });
}

/** Eight codes of a word, in the order of the columns. */
function unpackAwq(words: Uint32Array): Uint8Array {
  const codes = new Uint8Array(words.length * awqColumns);
  for (let at = 0; at < words.length; at++) {
    for (let nibble = 0; nibble < awqColumns; nibble++)
      codes[at * awqColumns + awqOrder[nibble]] = (words[at] >>> (4 * nibble)) & 15;
  }
  return codes;
}
