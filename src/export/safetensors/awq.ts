/** Grouped integers as AutoAWQ's format "gemm" stores them; see src/models/quantized/awq.ts for the layout. */

import { floatToHalf } from '../../base/half.ts';
import type { Stored } from '../../base/tensor.ts';
import type { Encoding } from '../../encodings/encoding.ts';
import { turned } from '../../encodings/words.ts';
import { awqColumns, awqOrder } from '../../models/quantized/awq.ts';
import type { Model } from '../../models/model.ts';
import type { CheckpointLayout } from './folder.ts';
import type { IntegerSizes } from './integers.ts';
import {
  groupAmong,
  integersOf,
  integerSizes,
  made,
  refuse,
  regrouped,
  scalesOf,
  zerosOf,
} from './integers.ts';
import { denseInBlocks, quantizedSizes } from './kinds.ts';

/** Groups that a matrix can be brought to without loss, where its own are not those of the others. */
export const awqGroups = [256, 128, 64, 32, 16] as const;

/**
 * @param group weights that share a scale, of all matrices: the encoding's groups, or what they are made of; -1: a row
 * @returns qweight, qzeros and scales (float16); undefined where the encoding is no grouped integers
 * @throws LapidaryError on widths and sizes that the format does not hold
 */
export function awqTensors(
  encoding: Encoding,
  { group }: { readonly group: number },
): Map<string, Stored> | undefined {
  const sizes = integerSizes(encoding);
  if (!sizes) return undefined;
  checkAwq(sizes);
  const { rows, columns } = sizes;
  const size = group === -1 ? columns : group;
  const [groups, words] = [columns / size, rows / awqColumns];
  const qweight = () => packAwq(turned(integersOf(encoding).codes, columns));
  const qzeros = () => packAwq(turned(regrouped(zerosOf(encoding), sizes, size), groups));
  const scales = () => floatToHalf(turned(regrouped(scalesOf(encoding), sizes, size), groups));
  return new Map([
    ['qweight', made('int32', [columns, words], qweight)],
    ['qzeros', made('int32', [groups, words], qzeros)],
    ['scales', made('float16', [groups, rows], scales)],
  ]);
}

/**
 * The group size that all matrices can be stored in, which is one in this format: the largest that their groups are made
 * of, -1 where all have whole rows.
 * @throws LapidaryError where there is none
 */
export function awqGroup(matrices: readonly IntegerSizes[]): number {
  if (matrices.every(({ group }) => group === -1)) return -1;
  const common = awqGroups.find((size) => matrices.every((sizes) => groupAmong(sizes, [size]) !== undefined));
  if (common !== undefined) return common;
  const odd = matrices.find(({ columns }) => columns % awqGroups.at(-1)! !== 0) ?? matrices[0];
  return refuse('AWQ', odd, {
    expected: 'one group size for all matrices',
    found: `${odd.columns} weights in a row`,
    fix: 'choose group: 32 for all',
  });
}

/** Eight codes a word, in the order that the format has them. */
function packAwq(codes: Uint8Array): Uint32Array {
  return Uint32Array.from({ length: codes.length / awqColumns }, (_, at) => {
    let word = 0;
    for (let nibble = 0; nibble < awqColumns; nibble++)
      word |= codes[at * awqColumns + awqOrder[nibble]] << (4 * nibble);
    return word;
  });
}

/** @throws LapidaryError on widths and sizes that the format does not hold */
export function checkAwq(sizes: IntegerSizes): void {
  const { rows, columns, bits, group } = sizes;
  if (bits > 4) refuse('AWQ', sizes, { expected: 'at most 4 bits', found: `${bits}`, fix: 'choose bits: 4' });
  if (rows % awqColumns !== 0) {
    refuse('AWQ', sizes, {
      expected: `rows in whole words of ${awqColumns}`,
      found: `${rows}`,
    });
  }
  if (group !== -1 && groupAmong(sizes, awqGroups) === undefined) {
    refuse('AWQ', sizes, {
      expected: `rows of whole groups of ${awqGroups.at(-1)} or more`,
      found: `${columns} weights`,
    });
  }
}

/** AutoAWQ's settings: one width and one group size for all that is quantized. */
export function awqLayout(model: Model): CheckpointLayout {
  const quantized = [...quantizedSizes(model).values()];
  const group = quantized.length === 0 ? 128 : awqGroup(quantized);
  const dense = denseInBlocks(model);
  const settings = {
    quant_method: 'awq',
    version: 'gemm',
    bits: 4,
    group_size: group,
    zero_point: true,
    modules_to_not_convert: dense.length > 0 ? dense : null,
  };
  return {
    settings: { quantization_config: settings },
    type: 'AWQ',
    tensorsOf: (_, encoding) => awqTensors(encoding, { group }),
  };
}
