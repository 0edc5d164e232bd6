/** The functions that exported models are written with: products with stored codes, attention and convolutions with a cache. */

import type { Attributes, Dim, Value } from '../value.ts';

/**
 * x [..., columns] times the transpose of a quantized matrix [rows, columns].
 * @param codes uint8 [rows, ceil(columns / block), block * bits / 8], low bits first
 * @param scales [rows, blocks] in x's type
 * @param zeroPoints uint8 [rows, ceil(blocks * bits / 8)], or numbers [rows, blocks]; without them 2^(bits - 1)
 * @param block weights along the inner axis that share a scale
 * @param accuracy 0: the engine's choice, 1: float32, 4: int8 activations
 */
export function matMulNBits(
  x: Value,
  {
    codes,
    scales,
    zeroPoints,
  }: { readonly codes: Value; readonly scales: Value; readonly zeroPoints?: Value | undefined },
  {
    rows,
    columns,
    bits,
    block,
    accuracy = 0,
  }: {
    readonly rows: number;
    readonly columns: number;
    readonly bits: number;
    readonly block: number;
    readonly accuracy?: number;
  },
): Value {
  const attributes = { K: columns, N: rows, bits, block_size: block, accuracy_level: accuracy };
  return x.graph.add('MatMulNBits', [x, codes, scales, zeroPoints], attributes)[0];
}

/**
 * The int32 product of 8-bit integers, each less its zero point (rank 0): a [..., k] times b [k, n]. uint8 times uint8 is
 * the pair that ONNX Runtime multiplies both fast and exactly on every processor: int8 times int8 is up to 17 times
 * slower, and uint8 times int8 saturates sums of two products on x86 processors without VNNI.
 */
export const matMulInteger = (a: Value, b: Value, zeroA: Value, zeroB: Value): Value =>
  a.graph.add('MatMulInteger', [a, b, zeroA, zeroB])[0];

/** round(x / scale) + zero point, halves to even, within the range of the zero point's type; both of rank 0. */
export const quantizeLinear = (x: Value, scale: Value, zeroPoint: Value): Value =>
  x.graph.add('QuantizeLinear', [x, scale, zeroPoint])[0];

/** (codes - zero point) * scale, with one scale for each `block` along an axis, or for each index of it without. */
export function dequantizeLinear(
  codes: Value,
  scales: Value,
  zeroPoints?: Value,
  options: { axis?: number; block?: number } = {},
): Value {
  const attributes: Attributes = {
    axis: options.axis ?? 1,
    ...(options.block ? { block_size: options.block } : {}),
  };
  return codes.graph.add('DequantizeLinear', [codes, scales, zeroPoints], attributes)[0];
}

export interface GroupQueryAttentionInputs {
  /** [batch, time, heads * size]; key and value [batch, time, keyValueHeads * size]. */
  readonly query: Value;
  readonly key: Value;
  readonly value: Value;
  /** [batch, keyValueHeads, past, size]. */
  readonly pastKey: Value;
  readonly pastValue: Value;
  /** int32 [batch]: tokens so far, less one. */
  readonly lengths: Value;
  /** int32, rank 0: tokens so far. */
  readonly total: Value;
  /** Rotary tables [positions, size / 2]; without them nothing is rotated. */
  readonly cos?: Value | undefined;
  readonly sin?: Value | undefined;
  /** Added to scores: [batch or 1, heads or 1, time, past + time]. */
  readonly bias?: Value | undefined;
  /** Of a cache that holds integers, a scale for every channel: float32 [1, keyValueHeads, 1, size]. */
  readonly keyScale?: Value | undefined;
  readonly valueScale?: Value | undefined;
}

export interface GroupQueryAttentionOptions {
  readonly heads: number;
  readonly keyValueHeads: number;
  /** Positions that a query sees, itself included. */
  readonly window?: number | undefined;
  /** Of scores; 1 / sqrt(size) where it is not given. */
  readonly scale?: number | undefined;
  /** Scores are held within ± this. */
  readonly softcap?: number | undefined;
  /** Name of past plus time. */
  readonly present?: Dim | undefined;
  /** Of a cache that holds integers: 8 (int8) or 4 (uint8 with two codes a byte, [..., size / 2]). */
  readonly cacheBits?: 4 | 8 | undefined;
}

/** Causal attention with a key/value cache; gives the result and the two extended caches. */
export function groupQueryAttention(
  inputs: GroupQueryAttentionInputs,
  options: GroupQueryAttentionOptions,
): readonly Value[] {
  const { query, key, value, pastKey, pastValue, lengths, total, cos, sin, bias } = inputs;
  const quantized = { k_quant_type: 'PER_CHANNEL', v_quant_type: 'PER_CHANNEL' };
  const attributes: Attributes = {
    num_heads: options.heads,
    kv_num_heads: options.keyValueHeads,
    do_rotary: cos ? 1 : 0,
    ...(options.window === undefined ? {} : { local_window_size: options.window }),
    ...(options.scale === undefined ? {} : { scale: { float: options.scale } }),
    ...(options.softcap === undefined ? {} : { softcap: { float: options.softcap } }),
    ...(options.present === undefined ? {} : { present: options.present }),
    ...(options.cacheBits === undefined ? {} : { ...quantized, kv_cache_bit_width: options.cacheBits }),
  };
  const scales = options.cacheBits === undefined ? [] : [undefined, inputs.keyScale, inputs.valueScale];
  return query.graph.add(
    'GroupQueryAttention',
    [query, key, value, pastKey, pastValue, lengths, total, cos, sin, undefined, bias, ...scales],
    attributes,
  );
}

/**
 * y[t] = sum of kernel[j] x[t - width + 1 + j] (+ bias) in each channel by itself, behind what came before.
 * @param x [batch, channels, time]
 * @param kernel [channels, 1, width]; bias [channels]
 * @param past the last width - 1 values before x [batch, channels, width - 1]
 * @returns y as x, and the last width - 1 values with x
 */
export const causalConvolution = (
  x: Value,
  kernel: Value,
  bias: Value | undefined,
  past: Value,
): readonly Value[] =>
  x.graph.add('CausalConvWithState', [x, kernel, bias, past], { activation: 'none', ndim: 1 });
