/** Grouped integers as GPTQ's checkpoint format stores them; see src/models/quantized/gptq.ts for the layout. */

import { floatToHalf } from '../../base/half.ts';
import type { Stored } from '../../base/tensor.ts';
import type { Encoding } from '../../encodings/encoding.ts';
import { packWords, turned, wordCount } from '../../encodings/words.ts';
import type { Model } from '../../models/model.ts';
import type { CheckpointLayout } from './folder.ts';
import type { IntegerSizes } from './integers.ts';
import { integersOf, integerSizes, made, refuse, scalesOf, zerosOf } from './integers.ts';
import { denseInBlocks, mostCommon, quantizedSizes } from './kinds.ts';

/** 1 stores zero points less one, 2 as they are. */
export type GptqVersion = 1 | 2;

/** Codes that fill whole words at every width. */
const wholeWords = 32;

/**
 * @returns qweight, qzeros, scales (float16) and g_idx; undefined where the encoding is no grouped integers
 * @throws LapidaryError on sizes that the format does not hold
 */
export function gptqTensors(
  encoding: Encoding,
  { version }: { readonly version: GptqVersion },
): Map<string, Stored> | undefined {
  const sizes = integerSizes(encoding);
  if (!sizes) return undefined;
  checkGptq(sizes);
  const { rows, columns, bits, group, groups } = sizes;
  const words = wordCount(columns, bits);
  const qweight = () => turned(packWords(integersOf(encoding).codes, columns, bits), words);
  const qzeros = () => {
    const zeros = turned(zerosOf(encoding), groups);
    return packWords(version === 1 ? zeros.map((zero) => zero - 1) : zeros, rows, bits);
  };
  const scales = () => floatToHalf(turned(scalesOf(encoding), groups));
  const groupOf = (column: number) => (group === -1 ? 0 : Math.floor(column / group));
  const index = () => Int32Array.from({ length: columns }, (_, column) => groupOf(column));
  return new Map([
    ['qweight', made('int32', [words, rows], qweight)],
    ['qzeros', made('int32', [groups, wordCount(rows, bits)], qzeros)],
    ['scales', made('float16', [groups, rows], scales)],
    ['g_idx', made('int32', [columns], index)],
  ]);
}

/** @throws LapidaryError on sizes that the format does not hold */
export function checkGptq(sizes: IntegerSizes): void {
  const { rows, columns } = sizes;
  if (rows % wholeWords === 0 && columns % wholeWords === 0) return;
  refuse('GPTQ', sizes, {
    expected: `sizes that are multiples of ${wholeWords}`,
    found: `[${rows}, ${columns}]`,
  });
}

/** GPTQModel's and vLLM's settings, with exceptions by name where matrices differ. */
export function gptqLayout(model: Model): CheckpointLayout {
  const quantized = quantizedSizes(model);
  const settingsOf = ({ bits, group }: IntegerSizes) => ({ bits, group_size: group });
  const common = mostCommon(quantized.values(), settingsOf) ?? { bits: 4, group_size: 128 };
  const others = [...quantized].filter(([, sizes]) => !equal(settingsOf(sizes), common));
  const dynamic = {
    ...Object.fromEntries(denseInBlocks(model).map((name) => [`-:^${escaped(name)}$`, {}])),
    ...Object.fromEntries(others.map(([name, sizes]) => [`+:^${escaped(name)}$`, settingsOf(sizes)])),
  };
  const symmetric = [...quantized.values()].every((sizes) => sizes.symmetric);
  // Engines disagree about a stored -1, a zero point of 0 in version 1: GPTQModel takes zero points in version 2 only.
  const version = symmetric ? 1 : 2;
  const settings = {
    quant_method: 'gptq',
    checkpoint_format: version === 1 ? 'gptq' : 'gptq_v2',
    ...common,
    sym: symmetric,
    desc_act: false,
    lm_head: false,
    pack_dtype: 'int32',
    ...(Object.keys(dynamic).length > 0 ? { dynamic } : {}),
  };
  return {
    settings: { quantization_config: settings },
    files: { 'quantize_config.json': settings },
    type: `GPTQ-Int${common.bits}`,
    tensorsOf: (_, encoding) => gptqTensors(encoding, { version }),
  };
}

const equal = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);

/** For a regular expression. */
const escaped = (name: string): string => name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
