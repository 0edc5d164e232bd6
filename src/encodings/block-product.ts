/**
 * Products with codes in blocks, by MatMulNBits, in the forms that the engine is fast at. Measured of ONNX Runtime 1.30 on a
 * CPU, one row by 1024 x 1024, one thread, in ms (float32 0.10): 4 bits 0.05, rounding its inputs to eight bits 0.02; 2 bits
 * 1.6 and 0.03, 8 bits 1.0 and 0.02, where each run restores the matrix unless inputs are rounded; 2 bits in blocks of 16
 * or 256 always do. Whether activations are float16 makes no difference.
 */

import type { Value } from '../graph/graph.ts';
import { cast, floats, gather, matMulNBits, reshape, slice } from '../graph/ops.ts';
import type { AccuracyLevel } from './encoding.ts';
import type { Width } from './pack.ts';
import { pack, packedLength, unpack } from './pack.ts';

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

/** How a product of so many bits is computed: only with four is there a choice. */
const levelFor = (bits: Width, asked: AccuracyLevel | undefined): AccuracyLevel =>
  asked === undefined ? 0 : bits === 4 ? asked : 4;

/**
 * y = x W^T: [..., columns] to [..., rows], in x's type.
 * @param accuracy of four bits; without it all are exact, however slow
 */
export function blockProduct(x: Value, operands: Operands, layout: Layout, accuracy?: AccuracyLevel): Value {
  if (layout.bits === 2 && !fastPairs.includes(layout.block))
    return blockProduct(x, widened(operands), { ...layout, bits: 4 }, accuracy);
  return matMulNBits(x, operands, { ...layout, accuracy: levelFor(layout.bits, accuracy) });
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
