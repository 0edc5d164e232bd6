/**
 * Grouped integers as blocks of ggml, without loss: w = (code - zero) * scale with a whole number in front is what a
 * block holds too, if its levels reach that far and its scale, a float16, is the group's. Of the types that can, the
 * smallest is taken: 4 bits without zero points are Q4_0; with them Q4_1, if every zero * scale is a float16 as well
 * (that is what the scales called "short" are for), and Q5_0 if not; 8 bits without zero points are Q8_0. Offsets of
 * floats are the minima of Q4_1 and Q5_1, where the least value of each group is a float16.
 */

import { LapidaryError } from '../../base/errors.ts';
import { halfCode, halfValue, toFloat32 } from '../../base/half.ts';
import { stored } from '../../base/tensor.ts';
import { equalValues } from '../affine.ts';
import type { Encoding } from '../encoding.ts';
import type { UnpackedGroups } from '../grouped.ts';
import { ungrouped } from '../grouped.ts';
import { unlevelled } from '../levels.ts';
import { shiftedParts } from '../shifted.ts';
import { writeHalf } from './arithmetic.ts';
import { blockEncoding } from './encoding.ts';
import { levelsAsIntegers, mxfp4Blocks } from './from-levels.ts';
import { blockTypeNamed } from './table.ts';
import type { BlockType } from './type.ts';

/** Types whose blocks have one scale, and where in a block it stands; the smallest first. */
const forms = [
  { type: blockTypeNamed('TQ2_0'), scaleAt: 64 },
  { type: blockTypeNamed('Q4_0'), scaleAt: 0 },
  { type: blockTypeNamed('Q4_1'), scaleAt: 0, minimumAt: 2 },
  { type: blockTypeNamed('Q5_0'), scaleAt: 0 },
  { type: blockTypeNamed('Q8_0'), scaleAt: 0 },
] as const;
type Form = (typeof forms)[number];

/** Of the smallest blocks. */
const leastSize = 32;

/**
 * The same values in blocks of ggml; floats and blocks stay as they are.
 * @throws LapidaryError on what no type of block holds, saying what would fit
 */
export function blocksOf(encoding: Encoding): Encoding {
  const numbers = unlevelled(encoding);
  if (numbers?.numbers === 'mxfp4') return mxfp4Blocks(numbers);
  const parts = shiftedParts(encoding);
  if (parts) return withMinima(encoding, ungrouped(parts.base)!, toFloat32(parts.offsets));
  const groups = numbers?.format.integers ? levelsAsIntegers(numbers) : ungrouped(encoding);
  if (!groups) {
    if (encoding.bits >= 16 || encoding.tensors.has('blocks')) return encoding;
    throw new LapidaryError({
      what: `ggml has no blocks for ${encoding.label}`,
      where: `matrix [${encoding.shape.join(', ')}]`,
      fix: 'use --method ggml, or write another format',
    });
  }
  checkSizes(groups);
  checkScales(groups);
  const reach = reachOf(groups);
  for (const form of forms) {
    const sign = signFor(form, groups, reach);
    if (sign !== undefined) return inBlocks(form, groups, sign);
  }
  return refuse(groups, {
    what: 'these zero points do not fit the blocks of ggml',
    expected: 'codes at most 128 below and 127 above their zero point',
    found: `${-reach.low} below and ${reach.high} above`,
    fix: 'choose symmetric: true, or 4 bits',
  });
}

function checkSizes(groups: UnpackedGroups): void {
  const { columns, length } = groups;
  if (columns % leastSize !== 0) {
    refuse(groups, {
      what: 'these rows are no whole blocks of ggml',
      expected: `a multiple of ${leastSize} weights`,
      found: `${columns}`,
    });
  }
  if (length % leastSize !== 0) {
    refuse(groups, {
      what: 'these groups are no whole blocks of ggml',
      expected: `a multiple of ${leastSize} weights with a scale`,
      found: `${length}`,
      fix: `choose group: ${leastSize}`,
    });
  }
}

function checkScales(groups: UnpackedGroups): void {
  const { scales } = groups;
  const bad = scales.filter((scale) => !isHalf(scale));
  if (bad.length === 0) return;
  refuse(groups, {
    what: 'these scales do not fit the blocks of ggml',
    expected: 'scales that float16 holds',
    found: `${bad.length} of ${scales.length} that it does not, such as ${bad[0]}`,
    fix: 'choose scales: short',
  });
}

const isHalf = (value: number): boolean => halfValue(halfCode(value)) === value;

function refuse(
  { rows, columns }: UnpackedGroups,
  problem: {
    readonly what: string;
    readonly expected: string;
    readonly found: string;
    readonly fix?: string;
  },
): never {
  throw new LapidaryError({ ...problem, where: `matrix [${rows}, ${columns}]` });
}

/** How far codes are from their zero points. */
interface Reach {
  readonly low: number;
  readonly high: number;
}

function reachOf({ columns, length, codes, zeros }: UnpackedGroups): Reach {
  let [low, high] = [0, 0];
  for (let start = 0, g = 0; start < codes.length; g++) {
    const end = Math.min(start + length, (Math.floor(start / columns) + 1) * columns);
    for (let i = start; i < end; i++) {
      const level = codes[i] - zeros[g];
      if (level < low) low = level;
      if (level > high) high = level;
    }
    start = end;
  }
  return { low, high };
}

/** 1 or -1, which levels and scales are multiplied by so that the type holds them; undefined where it does not. */
function signFor(form: Form, groups: UnpackedGroups, { low, high }: Reach): 1 | -1 | undefined {
  const { type } = form;
  const { columns, length, bits, scales, zeros } = groups;
  if (columns % type.size !== 0 || length % type.size !== 0) return undefined;
  if ('minimumAt' in form) {
    return 2 ** bits <= type.levels.length && scales.every((scale, g) => isHalf(zeros[g] * scale))
      ? 1
      : undefined;
  }
  const [least, most] = [type.levels[0], type.levels.at(-1)!];
  if (low >= least && high <= most) return 1;
  return -high >= least && -low <= most ? -1 : undefined;
}

function inBlocks(form: Form, groups: UnpackedGroups, sign: 1 | -1): Encoding {
  const { type, scaleAt } = form;
  const { rows, columns, length, scales, zeros } = groups;
  const perRow = columns / type.size;
  const groupsPerRow = scales.length / rows;
  const blocks = new Uint8Array(rows * perRow * type.bytes);
  const codes = new Uint8Array(groups.codes.length);
  for (let b = 0; b < rows * perRow; b++) {
    const column = (b % perRow) * type.size;
    const g = Math.floor(b / perRow) * groupsPerRow + Math.floor(column / length);
    const at = b * type.bytes;
    writeHalf(blocks, at + scaleAt, sign * scales[g]);
    // With a minimum, codes count from it; without, from the least level.
    const zero = 'minimumAt' in form ? 0 : zeros[g];
    if ('minimumAt' in form) writeHalf(blocks, at + form.minimumAt, -zeros[g] * scales[g]);
    const from = b * type.size;
    for (let i = from; i < from + type.size; i++) {
      codes[i] = sign * (groups.codes[i] - zero) - type.levels[0];
    }
  }
  return asEncoding(type, [rows, columns], type.pack(codes, { blocks }));
}

const withMinimum = [blockTypeNamed('Q4_1'), blockTypeNamed('Q5_1')] as const;

/** Codes count from the least one, which has the minimum of its group. */
function withMinima(source: Encoding, groups: UnpackedGroups, offsets: Float32Array): Encoding {
  checkSizes(groups);
  checkScales(groups);
  const { rows, columns, length, scales, zeros } = groups;
  let [least, most] = [255, 0];
  for (const code of groups.codes) {
    if (code < least) least = code;
    if (code > most) most = code;
  }
  const type = withMinimum.find(({ levels }) => most < levels.length);
  const from = type ? 0 : least;
  const found = type ?? withMinimum.find(({ levels }) => most - least < levels.length);
  const minima = offsets.map((offset, g) => offset + (from - zeros[g]) * scales[g]);
  const perRow = columns / leastSize;
  const ofBlock = (b: number) =>
    Math.floor(b / perRow) * (scales.length / rows) + Math.floor(((b % perRow) * leastSize) / length);
  if (found && minima.every(isHalf)) {
    const blocks = new Uint8Array(rows * perRow * found.bytes);
    for (let b = 0; b < rows * perRow; b++) {
      writeHalf(blocks, b * found.bytes, scales[ofBlock(b)]);
      writeHalf(blocks, b * found.bytes + 2, minima[ofBlock(b)]);
    }
    const codes = groups.codes.map((code) => code - from);
    const result = asEncoding(found, [rows, columns], found.pack(codes, { blocks }));
    if (equalValues(result.dense(), source.dense())) return result;
  }
  return refuse(groups, {
    what: `ggml has no blocks for ${source.label}`,
    expected: 'at most 5 bits, and a least value of each group that float16 holds',
    found: `${most - least + 1} codes, and least values that it does not hold`,
    fix: 'use --method ggml, or write another format',
  });
}

const asEncoding = (type: BlockType, shape: readonly [rows: number, columns: number], bytes: Uint8Array) =>
  blockEncoding(type, shape, stored('uint8', [shape[0], bytes.length / shape[0]], bytes));
