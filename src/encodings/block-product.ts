/**
 * Products with codes in blocks, by MatMulNBits, in the forms that the engine is fast at. Measured of ONNX Runtime 1.30 on a
 * CPU, one row by 1024 x 1024, one thread, in ms (float32 0.10): 4 bits 0.05, rounding its inputs to eight bits 0.02; 2 bits
 * 1.6 and 0.03, 8 bits 1.0 and 0.02, where each run restores the matrix unless inputs are rounded; 2 bits in blocks of 16
 * or 256 always do. Whether activations are float16 makes no difference. So where floats are wanted of 2 and 8 bits, an input
 * is multiplied as its rounded part and what that leaves, as two rows of one product: the error falls from 1e-2 to 5e-5, and
 * weights are read once (a head of 49152 x 576: 2.6 ms in place of 1.6).
 */

import type { Value } from '../graph/graph.ts';
import {
  cast,
  concat,
  floats,
  gather,
  matMulNBits,
  mul,
  reduceSum,
  reshape,
  slice,
  sub,
  unsqueeze,
} from '../graph/ops.ts';
import type { AccuracyLevel } from './encoding.ts';
import type { Width } from './pack.ts';
import { pack, packedLength, unpack } from './pack.ts';
import { roundTokens } from './rounded.ts';

/** Codes as they are stored. */
interface Operands {
  /** uint8 [rows, blocks, bytes of a block], low bits first. */
  readonly codes: Value;
  /** [rows, blocks], in the type of the activations. */
  readonly scales: Value;
  /** uint8 [rows, bytes of a row's zero points]; without them the middle code. */
  readonly zeroPoints?: Value | undefined;
}

interface Layout {
  readonly rows: number;
  readonly columns: number;
  readonly bits: Width;
  /** Weights that share a scale. */
  readonly block: number;
}

/** Blocks for which there is a product of two bits. */
const fastPairs: readonly number[] = [32, 64, 128];

/** The largest block of a size that a product is fast at, for whole rows. */
export const widestBlock = (bits: Width): number => (bits === 2 ? Math.max(...fastPairs) : 256);

/**
 * y = x W^T: [..., columns] to [..., rows], in x's type.
 * @param accuracy 0 of 2 and 8 bits, in float32: inputs as the sum of two that are rounded to eight bits each, so that a
 * product is about 4e-5 from the exact one where level 4 is 1e-2; without it all are exact, however slow
 */
export function blockProduct(x: Value, operands: Operands, layout: Layout, accuracy?: AccuracyLevel): Value {
  if (layout.bits === 2 && !fastPairs.includes(layout.block))
    return blockProduct(x, widened(operands), { ...layout, bits: 4 }, accuracy);
  if (layout.bits === 4 || accuracy === undefined)
    return matMulNBits(x, operands, { ...layout, accuracy: accuracy ?? 0 });
  const rounding = { ...layout, accuracy: 4 };
  // GPUs, for which float16 is written, are not slower at either.
  if (accuracy === 4 || x.dtype !== 'float32') return matMulNBits(x, operands, rounding);
  return reduceSum(matMulNBits(inTwo(x, layout.block), operands, rounding), [0]);
}

/** By input and block: layers that are fed the same share it. */
const halves = new WeakMap<Value, Map<number, Value>>();

/** Whether a product's input is one that was split in two, so that it multiplies about as floats do. */
export const isInTwo = (input: Value): boolean => split.has(input);
const split = new WeakSet<Value>();

/** x [...] as what the engine's rounding takes as it is, and what that leaves: [2, ...]. */
function inTwo(x: Value, block: number): Value {
  const known = halves.get(x) ?? new Map<number, Value>();
  halves.set(x, known);
  const made = known.get(block);
  if (made) return made;
  const first = onGrid(x, block);
  const both = concat(
    [first, sub(x, first)].map((half) => unsqueeze(half, [0])),
    0,
  );
  known.set(block, both);
  split.add(both);
  return both;
}

/** As level 4 rounds inputs: each block, and the rest of a row, by its own largest size. */
function onGrid(x: Value, block: number): Value {
  const lead = x.shape.slice(0, -1);
  const columns = x.shape.at(-1) as number;
  const whole = columns - (columns % block);
  const rounded = (part: Value, length: number) => {
    const { codes, scales } = roundTokens(reshape(part, [...lead, -1, length]), 8);
    return reshape(mul(codes, scales), part.shape);
  };
  if (whole === columns) return rounded(x, block);
  const rest = rounded(slice(x, -1, whole, columns), columns - whole);
  return whole === 0 ? rest : concat([rounded(slice(x, -1, 0, whole), block), rest], lead.length);
}

/** Codes of two bits in four, which engines work out once, when they load the file. */
function widened({ codes, scales, zeroPoints }: Operands): Operands {
  const [rows, blocks, bytes] = codes.shape as readonly number[];
  // The middle code stays the middle one.
  const wide = reshape(inFour(codes, zeroPoints ? 0 : 6), [rows, blocks, 2 * bytes]);
  if (!zeroPoints) return { codes: wide, scales };
  const zeros = reshape(inFour(zeroPoints, 0), [rows, -1]);
  const length = packedLength(blocks, 4);
  return { codes: wide, scales, zeroPoints: slice(zeros, 1, 0, length, length) };
}

/** uint8 [...]: four codes a byte; uint8 [..., 2]: two codes a byte, each with something added. */
function inFour(bytes: Value, added: number): Value {
  const all = Uint8Array.from({ length: 256 }, (_, byte) => byte);
  const codes = unpack(all, 1, 4, 2).map((code) => code + added);
  return gather(floats(bytes.graph, pack(codes, 4, 4), [256, 2], 'uint8'), cast(bytes, 'int32'));
}
