/**
 * A matrix in a number format (levels/numbers.ts): w = value(code) * scale, with a scale for a group of a row, a row or
 * the matrix. Codes and scales are stored as the format has them: four-bit codes the first in the low bits, scales of
 * microscaling formats as their 8-bit codes.
 *
 * Engines multiply whole numbers as they are (ternary: MatMulNBits of two bits), and halves as whole numbers of eight bits,
 * which they look up when they load the file (E2M1: FP4, MXFP4, NVFP4). Other formats stand in a graph as their codes, a table
 * that is looked up by whole bytes, and a product; the engine works that out once, when it loads the file.
 */

import { LapidaryError } from '../base/errors.ts';
import { toFloat32 } from '../base/half.ts';
import type { Stored } from '../base/tensor.ts';
import { stored } from '../base/tensor.ts';
import type { Value } from '../graph/graph.ts';
import {
  cast,
  div,
  expand,
  floats,
  fusedMatmul,
  gather,
  mul,
  reshape,
  scale,
  slice,
  unsqueeze,
} from '../graph/ops.ts';
import { blockProduct } from './block-product.ts';
import { decodedProduct } from './dense.ts';
import type { Encoding, EncodingAtRest, Place } from './encoding.ts';
import type { GroupSize, Packing } from './grouped.ts';
import { groupSizes, packing, storeScales } from './grouped.ts';
import { e4m3, e8m0 } from './levels/minifloat.ts';
import type { LevelGroup, NumberFormat, NumberName } from './levels/numbers.ts';
import { numberFormats, numberNames, scaleCode, scaleValue } from './levels/numbers.ts';
import { pack, unpack } from './pack.ts';

interface Sizes {
  readonly numbers: NumberName;
  readonly rows: number;
  readonly columns: number;
  /** A format with a group of its own takes only that. */
  readonly group: LevelGroup;
}

/** Scales by what they are worth, or as the format stores them. */
interface Scales {
  /**
   * What a value is multiplied by: [rows, groups], [rows, 1] for whole rows, [1, 1] for the whole matrix. In formats with
   * stored codes they must be of the numbers that these stand for.
   */
  readonly scales?: Float32Array | undefined;
  /** Instead of `scales`, where the format has 8-bit scales. */
  readonly scaleCodes?: Uint8Array | undefined;
  /** With E4M3 scales: what they are divided by. */
  readonly global?: number | undefined;
}

/** What a method or a reader found. */
export interface LevelCodes extends Sizes, Scales {
  /** [rows, columns], as the format has them: a float's bits, an index into NF4's values, 1 to 3 for -1 to 1. */
  readonly codes: Uint8Array;
}

/** The same with codes that are packed already, as `levelPacking` says. */
export interface PackedLevels extends Sizes, Scales {
  readonly packed: Uint8Array;
}

/** @throws LapidaryError on sizes that do not agree, codes that stand for no number, and scales that cannot be stored */
export function levels({ codes, ...rest }: LevelCodes): Encoding {
  const { rows, columns } = rest;
  const format = formatOf(rest);
  if (codes.length !== rows * columns) refuse(rest, `${rows * columns} codes`, `${codes.length}`);
  checkCodes(rest, format, codes);
  const { blocks, block, fill } = levelPacking(rest);
  return levelsPacked({ ...rest, packed: pack(codes, columns, format.bits, blocks * block, fill) });
}

/** @throws LapidaryError on sizes that do not agree, and scales that cannot be stored; codes are taken as they are */
export function levelsPacked({ packed, ...rest }: PackedLevels): Encoding {
  const { rows } = rest;
  const format = formatOf(rest);
  const { blocks, rowBytes } = levelPacking(rest);
  if (packed.length !== rows * rowBytes)
    refuse(rest, `${rows * rowBytes} bytes of codes`, `${packed.length}`);
  const tensors = new Map([['levels', stored('uint8', [rows, blocks, rowBytes / blocks], packed)]]);
  for (const [suffix, tensor] of storedScales(rest, format)) tensors.set(suffix, tensor);
  return fromTensors(rest, format, tensors);
}

/**
 * A matrix in a number format from what it is at rest.
 * @throws LapidaryError as `levels` does, and on tensors that are missing or too many
 */
export function restoreLevels({ description, shape, tensors }: EncodingAtRest): Encoding {
  const [rows, columns] = shape;
  const { numbers, group } = description as unknown as Pick<Sizes, 'numbers' | 'group'>;
  const sizes = { numbers, rows, columns, group };
  const format = formatOf(sizes);
  const { blocks, rowBytes } = levelPacking(sizes);
  const scaleType =
    format.scale !== 'float' ? 'uint8' : tensors.get('scales')?.dtype === 'float16' ? 'float16' : 'float32';
  const expected = new Map<string, string>([
    ['levels', `uint8 [${[rows, blocks, rowBytes / blocks].join(', ')}]`],
    ['scales', `${scaleType} [${scaleShape(sizes).join(', ')}]`],
    ...(format.scale === 'e4m3' ? [['global', 'float32 [1]'] as const] : []),
  ]);
  for (const suffix of new Set([...expected.keys(), ...tensors.keys()])) {
    const tensor = tensors.get(suffix);
    const found = tensor && `${tensor.dtype} [${tensor.shape.join(', ')}]`;
    const wanted = expected.get(suffix);
    if (found !== wanted) refuse(sizes, `${suffix}: ${wanted ?? 'none'}`, found ?? 'none');
  }
  const whole = fromTensors(sizes, format, tensors);
  const parts = unlevelled(whole)!;
  checkCodes(sizes, format, parts.codes);
  checkScales(sizes, parts.scales);
  return whole;
}

/** What `levels` was given. */
export interface Unlevelled extends Sizes {
  readonly format: NumberFormat;
  /** Weights that share a scale: of a row, but for "tensor". */
  readonly length: number;
  /** [rows, columns]. */
  readonly codes: Uint8Array;
  /** [rows, groups], [rows, 1] or [1, 1]: what a value is multiplied by. */
  readonly scales: Float32Array;
  /** The same as stored, where the format has 8-bit scales. */
  readonly scaleCodes?: Uint8Array | undefined;
  /** With E4M3 scales: what they are divided by. */
  readonly global?: number | undefined;
}

/** Undefined for encodings that are in none of the number formats. */
export function unlevelled({ description, shape, tensors }: EncodingAtRest): Unlevelled | undefined {
  if (description.kind !== 'levels') return undefined;
  const [rows, columns] = shape;
  const { numbers, group } = description as unknown as Pick<Sizes, 'numbers' | 'group'>;
  const sizes = { numbers, rows, columns, group };
  const format = formatOf(sizes);
  const codes = unpack(tensors.get('levels')!.bytes(), levelPacking(sizes).rowBytes, columns, format.bits);
  const length = typeof group === 'number' && group > 0 ? group : columns;
  const kept = tensors.get('scales')!;
  if (format.scale === 'float') return { ...sizes, format, length, codes, scales: toFloat32(kept) };
  const scaleCodes = kept.bytes();
  const factor = tensors.get('global');
  const global = factor && toFloat32(factor)[0];
  const { scale } = format;
  const scales = Float32Array.from(scaleCodes, (code) => scaleValue(scale, code, global ?? 1));
  return { ...sizes, format, length, codes, scales, scaleCodes, global };
}

/** How the codes of a row are packed: blocks that engines read, the end of a row filled. */
export function levelPacking({ numbers, columns, group }: Omit<Sizes, 'rows'>): Packing {
  const { bits } = numberFormats.get(numbers)!;
  return packing({ columns, bits, group: group === 'tensor' ? -1 : (group as GroupSize), zeroPoints: false });
}

function formatOf(sizes: Sizes): NumberFormat {
  const { numbers, rows, columns, group } = sizes;
  const format = numberFormats.get(numbers);
  if (!format) refuse(sizes, `numbers of ${numberNames.join(', ')}`, `${numbers}`);
  if (!(rows >= 0 && columns >= 1)) refuse(sizes, 'rows and columns', 'none');
  if (format.ownGroup && group !== format.group) refuse(sizes, `groups of ${format.group}`, `${group}`);
  if (group !== -1 && group !== 'tensor' && !groupSizes.includes(group as (typeof groupSizes)[number])) {
    refuse(sizes, `groups of ${groupSizes.join(', ')}, -1 or "tensor"`, `${group}`);
  }
  return format;
}

function scaleShape({ rows, columns, group }: Sizes): readonly [number, number] {
  if (group === 'tensor') return [1, 1];
  return [rows, group === -1 ? 1 : Math.ceil(columns / group)];
}

function storedScales(parts: Sizes & Scales, format: NumberFormat): readonly (readonly [string, Stored])[] {
  const { scales, scaleCodes, global } = parts;
  const shape = scaleShape(parts);
  const count = shape[0] * shape[1];
  const { scale: form } = format;
  const given = scales ?? scaleCodes;
  if (given?.length !== count) refuse(parts, `${count} scales`, `${given?.length ?? 'none'}`);
  if (scales) checkScales(parts, scales);
  if ((global !== undefined) !== (form === 'e4m3')) {
    refuse(parts, form === 'e4m3' ? 'a factor of all scales' : 'no factor of all scales', `${global}`);
  }
  if (form === 'float') {
    if (!scales) refuse(parts, 'scales as floats', 'codes');
    return [['scales', storeScales(scales, shape[0])]];
  }
  const factor = global ?? 1;
  if (!(factor > 0 && Number.isFinite(factor))) refuse(parts, 'a positive factor of all scales', `${factor}`);
  const codes = scaleCodes ?? Uint8Array.from(scales!, (scale) => scaleCode(form, scale, factor));
  const worth = Float32Array.from(codes, (code) => scaleValue(form, code, factor));
  checkScales(parts, worth);
  const lost = scales?.findIndex((scale, i) => scale !== worth[i]) ?? -1;
  if (lost >= 0) refuse(parts, `scales that ${form} holds`, `${scales![lost]}`);
  return [
    ['scales', stored('uint8', shape, codes)],
    ...(form === 'e4m3' ? [['global', stored('float32', [1], Float32Array.of(factor))] as const] : []),
  ];
}

function checkScales(sizes: Sizes, scales: Float32Array): void {
  const bad = scales.find((scale) => !Number.isFinite(scale));
  if (bad !== undefined) refuse(sizes, 'finite scales', `${bad}`);
}

function checkCodes(sizes: Sizes, { values }: NumberFormat, codes: Uint8Array): void {
  const bad = codes.find((code) => !(code < values.length && !Number.isNaN(values[code])));
  if (bad !== undefined) refuse(sizes, 'codes that stand for numbers', `${bad}`);
}

function refuse({ numbers, rows, columns }: Sizes, expected: string, found: string): never {
  throw new LapidaryError({
    what: `this is no matrix of ${numbers}`,
    where: `matrix [${rows}, ${columns}]`,
    expected,
    found,
  });
}

function fromTensors(sizes: Sizes, format: NumberFormat, tensors: ReadonlyMap<string, Stored>): Encoding {
  const { numbers, rows, columns, group } = sizes;
  const { bits } = format;
  const atRest: EncodingAtRest = {
    description: { kind: 'levels', numbers, group },
    shape: [rows, columns],
    tensors,
  };
  const dense = () => valuesOf(unlevelled(atRest)!);
  const put = (place: Place) => (suffix: string) => place(suffix, tensors.get(suffix)!);
  const span = { '-1': 'whole rows', tensor: 'whole matrix' }[group] ?? `group ${group}`;
  return {
    ...atRest,
    label: `${numbers}, ${span}`,
    bits,
    dense,
    multiply(x, place, { accuracy } = {}) {
      if (x.graph.weightsAs === 'inputs') return decodedProduct(x, place, { ...atRest, dense });
      if (format.integers) {
        const { block, blocks } = levelPacking(sizes);
        const scales = expand(cast(put(place)('scales'), x.dtype), [rows, blocks]);
        const codes = put(place)('levels');
        return blockProduct(x, { codes, scales }, { rows, columns, bits, block }, accuracy);
      }
      // Float16 has no room for half of every scale.
      if (format.halves && accuracy !== undefined && x.dtype === 'float32') {
        const { block, blocks } = levelPacking(sizes);
        const operands = doubled(put(place), format, [rows, blocks, block]);
        return blockProduct(x, operands, { rows, columns, bits: 8, block }, accuracy);
      }
      return fusedMatmul(x, cast(inGraph(put(place), format, columns), x.dtype), { transB: true });
    },
    gather: (ids, place, dtype) => cast(inGraph(put(place), format, columns, ids), dtype),
  };
}

function valuesOf({
  rows,
  columns,
  length,
  group,
  codes,
  scales,
  format: { values },
}: Unlevelled): Float32Array {
  const dense = new Float32Array(rows * columns);
  const groups = Math.ceil(columns / length);
  for (let row = 0; row < rows; row++) {
    const from = group === 'tensor' ? 0 : row * groups;
    for (let column = 0; column < columns; column++) {
      const at = row * columns + column;
      dense[at] = values[codes[at]] * scales[from + Math.floor(column / length)];
    }
  }
  return dense;
}

/** All values [rows, columns], or those of the rows at ids [..., columns]; float32. */
function inGraph(put: (suffix: string) => Value, format: NumberFormat, columns: number, ids?: Value): Value {
  const codes = put('levels');
  const picked = ids ? gather(codes, ids) : codes;
  const outer = ids ? ids.shape : codes.shape.slice(0, 1);
  const numbers = lookUp(picked, byteTable(format), 8 / format.bits);
  const factors = factorsIn(put, format, ids);
  const grouped = reshape(numbers, [...outer, factors.shape.at(-1)!, -1]);
  const values = reshape(mul(grouped, unsqueeze(factors, [-1])), [...outer, -1]);
  return values.shape.at(-1) === columns ? values : slice(values, -1, 0, columns, columns);
}

/** What values are multiplied by: float32 [rows, groups], or those of the rows at ids [..., groups]; [1, 1] for a matrix. */
function factorsIn(put: (suffix: string) => Value, { scale }: NumberFormat, ids?: Value): Value {
  // Cast first, which engines do at load: a GPU without float16 could not even look them up.
  const scales = scale === 'float' ? cast(put('scales'), 'float32') : put('scales');
  const picked = ids && scales.shape[0] !== 1 ? gather(scales, ids) : scales;
  if (scale === 'float') return picked;
  const factors = lookUp(picked, (scale === 'e8m0' ? e8m0 : e4m3).map(orZero), 1);
  return scale === 'e4m3' ? div(factors, put('global')) : factors;
}

/** Twice the values as codes of eight bits around 128, and half of the scales. */
function doubled(
  put: (suffix: string) => Value,
  format: NumberFormat,
  shape: readonly [number, number, number],
) {
  const [rows, blocks] = shape;
  const table = Uint8Array.from(byteTable(format), (value) => 2 * value + 128);
  const entries = floats(put('levels').graph, table, [256, 8 / format.bits], 'uint8');
  const codes = reshape(gather(entries, cast(put('levels'), 'int32')), shape);
  return { codes, scales: expand(scale(factorsIn(put, format), 0.5), [rows, blocks]) };
}

/** What bytes [...] stand for: [..., count], or [...] where they stand for one number each. */
function lookUp(bytes: Value, table: Float32Array, count: number): Value {
  const entries = floats(bytes.graph, table, count === 1 ? [256] : [256, count]);
  return gather(entries, cast(bytes, 'int32'));
}

/** The values of the codes in each byte, the lowest bits first: [256, 8 / bits]. */
function byteTable({ bits, values }: NumberFormat): Float32Array {
  const all = Uint8Array.from({ length: 256 }, (_, byte) => byte);
  return Float32Array.from(unpack(all, 1, 8 / bits, bits), (code) => orZero(values[code]));
}

/** What no number is in the place of must not get into a product. */
const orZero = (value: number): number => (Number.isNaN(value) ? 0 : value);

export type { LevelGroup, NumberName };
export { numberNames };
