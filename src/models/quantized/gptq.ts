/**
 * GPTQ's checkpoint format, as AutoGPTQ and GPTQModel write it. qweight int32 [in * bits / 32, out]: the codes of a column
 * as one stream of bits down the rows; qzeros int32 [groups, out * bits / 32]; scales [groups, out]; g_idx int32 [in], the
 * group of each input. Version 1 ("gptq") stores zero points less one, version 2 ("gptq_v2") as they are.
 */

import { withinTime } from '../../base/guard/deadline.ts';
import { toFloat32 } from '../../base/half.ts';
import { isObject } from '../../base/json.ts';
import type { Stored } from '../../base/tensor.ts';
import type { Encoding } from '../../encodings/encoding.ts';
import type { Bits } from '../../encodings/grid.ts';
import { turned, unpackWords, wordCount } from '../../encodings/words.ts';
import type { Json } from '../settings.ts';
import { wrongSetting } from '../settings.ts';
import type { QuantizedFormat } from './format.ts';
import type { Integers } from './integers.ts';
import { groupOf, halfEncoding, integerEncoding, isBits, isGroup } from './integers.ts';
import type { MatrixTensors } from './tensors.ts';
import { floats, refuse, tensorOf, wordsOf } from './tensors.ts';

export const gptq: QuantizedFormat = {
  name: 'gptq',
  matches: ({ quantization_config: config }) => isObject(config) && config.quant_method === 'gptq',
  bits: ({ quantization_config: config }) => (config as Json).bits,
  open({ quantization_config: config }) {
    const json = config as Json;
    const named = json.checkpoint_format ?? json.format ?? 'gptq';
    const version = named === 'gptq' ? 1 : named === 'gptq_v2' ? 2 : undefined;
    if (version === undefined) throw wrongSetting(`${key}.checkpoint_format`, 'gptq, gptq_v2', named);
    const settings = readSettings(json, { version, group: 128 }, key);
    const exceptions = readDynamic(json.dynamic ?? {}, settings);
    return (name, tensors) => {
      if (!tensors.has('qweight')) return undefined;
      const found = withinTime(
        () => exceptions.find(({ expression }) => expression.test(name)),
        `an expression of ${key}.dynamic`,
        'config.json',
      );
      const { settings: own } = found ?? { settings };
      return gptqEncoding(tensors, own ?? settings);
    };
  },
};

const key = 'quantization_config';

function readSettings(
  json: Json,
  known: Pick<GptqSettings, 'version' | 'group'> & Partial<GptqSettings>,
  where: string,
): GptqSettings {
  const bits = json.bits ?? known.bits;
  const group = json.group_size ?? known.group;
  if (!isBits(bits)) throw wrongSetting(`${where}.bits`, '2, 3, 4, 8', bits);
  if (!isGroup(group)) throw wrongSetting(`${where}.group_size`, '-1 or a whole number above 0', group);
  return { bits, group, version: known.version };
}

/** Settings by names of matrices, the first that fits; none for matrices that are not quantized. */
function readDynamic(dynamic: unknown, settings: GptqSettings) {
  if (!isObject(dynamic)) throw wrongSetting(`${key}.dynamic`, 'settings by names', dynamic);
  return Object.entries(dynamic).map(([pattern, own]) => {
    const where = `${key}.dynamic["${pattern}"]`;
    const kept = pattern.startsWith('-:');
    if (!kept && !isObject(own)) throw wrongSetting(where, 'settings', own);
    return {
      expression: expressionOf(pattern.replace(/^[-+]:/, ''), where),
      settings: kept ? undefined : readSettings(own as Json, settings, where),
    };
  });
}

/** Matched from the start of a name, and not to its end. */
function expressionOf(pattern: string, where: string): RegExp {
  try {
    return new RegExp(`^(?:${pattern})`);
  } catch {
    throw wrongSetting(where, 'a regular expression', pattern);
  }
}

export interface GptqSettings {
  readonly bits: Bits;
  /** Inputs that share a scale; -1 for all. */
  readonly group: number;
  readonly version: 1 | 2;
}

/**
 * One matrix. Where its inputs were quantized in another order (act-order) or in groups that `grouped` does not know, it is
 * held as the float16 values that its codes stand for.
 * @throws LapidaryError on tensors that do not agree with the settings or each other
 */
export function gptqEncoding(tensors: MatrixTensors, settings: GptqSettings): Encoding {
  const { bits, group } = settings;
  const words = tensorOf(tensors, 'qweight', ['int32']);
  const [rows, columns] = [words.shape[1], columnsOf(tensors, words.shape[0], bits)];
  const groups = group === -1 ? 1 : Math.ceil(columns / group);
  const zeros = tensorOf(tensors, 'qzeros', ['int32'], [groups, wordCount(rows, bits)]);
  const scales = tensorOf(tensors, 'scales', floats, [groups, rows]);
  const read = (): Integers => ({
    rows,
    columns,
    bits,
    group,
    codes: unpackWords(turned(wordsOf(words), rows), columns, bits),
    scales: turned(toFloat32(scales), rows),
    zeros: turned(zeroPoints(zeros, rows, settings), rows),
  });
  const index = tensors.has('g_idx') ? groupIndex(tensors, columns, groups) : undefined;
  const inOrder = !index || index.every((of, i) => of === (group === -1 ? 0 : Math.floor(i / group)));
  const size = groupOf(group, columns);
  if (inOrder && size !== undefined) return integerEncoding({ ...read(), group: size });
  return halfEncoding([rows, columns], read, index);
}

/** As many as there are codes, unless the last word of each is not full: then g_idx tells. */
function columnsOf(tensors: MatrixTensors, words: number, bits: Bits): number {
  const given = tensors.get('g_idx')?.shape[0];
  return given !== undefined && wordCount(given, bits) === words ? given : Math.floor((words * 32) / bits);
}

/** [groups, rows] */
function zeroPoints(tensor: Stored, rows: number, { bits, version }: GptqSettings): Uint8Array {
  const words = wordsOf(tensor);
  if (version === 2) return unpackWords(words, rows, bits);
  const top = 2 ** bits - 1;
  if (32 % bits !== 0) return unpackWords(words, rows, bits).map((stored) => (stored + 1) & top);
  // GPTQModel subtracts one from every code of a word at once: a zero point of 0 borrowed from the next one.
  const ones = 0xffffffff / top;
  return unpackWords(
    words.map((word) => word + ones),
    rows,
    bits,
  );
}

/** [columns] */
function groupIndex(tensors: MatrixTensors, columns: number, groups: number): Int32Array {
  const index = new Int32Array(wordsOf(tensorOf(tensors, 'g_idx', ['int32'], [columns])).buffer);
  const bad = index.find((of) => of < 0 || of >= groups);
  if (bad !== undefined) refuse('g_idx', `groups below ${groups}`, `${bad}`);
  return index;
}
