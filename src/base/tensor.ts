/**
 * What a tensor is before anything computes with it: a type, a shape, and bytes that are read when asked for.
 * Checkpoint readers hand these out, encodings hold them, the graph stores them; so a model larger than memory
 * is only ever a list of offsets.
 */

/** Little-endian element types; `uint4` and `int4` are packed two to a byte, low nibble first. */
export type DType =
  | 'float32'
  | 'float16'
  | 'bfloat16'
  | 'float64'
  | 'int64'
  | 'int32'
  | 'uint32'
  | 'int16'
  | 'int8'
  | 'uint8'
  | 'float8e4m3'
  | 'float8e5m2'
  | 'uint4'
  | 'int4'
  | 'bool';

const bitsOf: Record<DType, number> = {
  float64: 64,
  int64: 64,
  float32: 32,
  int32: 32,
  uint32: 32,
  float16: 16,
  bfloat16: 16,
  int16: 16,
  int8: 8,
  uint8: 8,
  float8e4m3: 8,
  float8e5m2: 8,
  bool: 8,
  uint4: 4,
  int4: 4,
};

/** A tensor at rest. */
export interface Stored {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly byteLength: number;
  /**
   * Reads all its bytes, row-major and little-endian. Callers must not write into them.
   * @param room where those of a file may go, if it is long enough; fresh memory costs more than reading does
   */
  bytes(room?: Uint8Array): Uint8Array;
}

/** Elements of a tensor of this shape; 1 for a scalar, []. */
export function elementCount(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** Bytes that a tensor of this type and shape takes; sub-byte types round up. */
export function byteLength(dtype: DType, shape: readonly number[]): number {
  return Math.ceil((elementCount(shape) * bitsOf[dtype]) / 8);
}

/** A tensor whose bytes are already in memory; the view is shared, not copied. */
export function stored(dtype: DType, shape: readonly number[], data: ArrayBufferView): Stored {
  const view = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const expected = byteLength(dtype, shape);
  if (view.byteLength !== expected) {
    throw new RangeError(`${dtype} [${shape.join(', ')}] takes ${expected} bytes, got ${view.byteLength}`);
  }
  return { dtype, shape, byteLength: expected, bytes: () => view };
}

/** Some rows of a tensor, copied: the first of its sizes is that of rows, and each takes whole bytes. */
export function rowsOf(tensor: Stored, rows: readonly number[]): Stored {
  const { dtype, shape, byteLength: length } = tensor;
  const [bytes, size] = [tensor.bytes(), length / shape[0]];
  const chosen = new Uint8Array(rows.length * size);
  for (const [i, row] of rows.entries()) chosen.set(bytes.subarray(row * size, (row + 1) * size), i * size);
  return stored(dtype, [rows.length, ...shape.slice(1)], chosen);
}
