/**
 * Codes of 2, 4 or 8 bits in bytes, the first in the lowest bits, as ONNX Runtime's block operators read them. Every
 * row starts at a byte, and fills its last with a code of the caller's choice.
 */

/** Bits that a code is stored in. */
export type Width = 2 | 4 | 8;

/** Bytes that a row of codes takes. */
export const packedLength = (codes: number, width: Width): number => Math.ceil((codes * width) / 8);

/**
 * @param codes [rows, columns], each below 2^width
 * @param length codes a row is padded to with `fill`
 * @returns [rows, packedLength(length)]
 */
export function pack(
  codes: Uint8Array,
  columns: number,
  width: Width,
  length = columns,
  fill = 0,
): Uint8Array {
  const rows = columns === 0 ? 0 : codes.length / columns;
  const rowBytes = packedLength(length, width);
  const perByte = 8 / width;
  const packed = new Uint8Array(rows * rowBytes);
  for (let row = 0; row < rows; row++) {
    for (let byte = 0; byte < rowBytes; byte++) {
      let bits = 0;
      for (let k = 0; k < perByte; k++) {
        const column = byte * perByte + k;
        bits |= (column < columns ? codes[row * columns + column] : fill) << (k * width);
      }
      packed[row * rowBytes + byte] = bits;
    }
  }
  return packed;
}

/** The first `columns` codes of every row of `rowBytes` bytes: [rows, columns]. */
export function unpack(packed: Uint8Array, rowBytes: number, columns: number, width: Width): Uint8Array {
  const rows = rowBytes === 0 ? 0 : packed.length / rowBytes;
  const perByte = 8 / width;
  const mask = 2 ** width - 1;
  const codes = new Uint8Array(rows * columns);
  for (let row = 0, at = 0; row < rows; row++) {
    const end = (row + 1) * columns;
    for (let from = row * rowBytes; at < end; from++) {
      let bits = packed[from];
      for (const stop = Math.min(at + perByte, end); at < stop; at++, bits >>= width) codes[at] = bits & mask;
    }
  }
  return codes;
}
