/**
 * Codes of any width as one stream of bits in 32-bit words, the first code in the lowest bits, as checkpoint formats pack
 * them (GPTQ down the rows, MLX and compressed-tensors along them). A code may lie across two words.
 */

/** Words that a row of codes takes. */
export const wordCount = (codes: number, bits: number): number => Math.ceil((codes * bits) / 32);

/**
 * @param codes [rows, columns], each below 2^bits
 * @returns [rows, wordCount(columns)]; the end of a row is filled with zeros
 */
export function packWords(codes: Uint8Array, columns: number, bits: number): Uint32Array {
  const rows = columns === 0 ? 0 : codes.length / columns;
  const length = wordCount(columns, bits);
  const words = new Uint32Array(rows * length);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const code = codes[row * columns + column];
      const bit = column * bits;
      const at = row * length + (bit >>> 5);
      const shift = bit & 31;
      words[at] |= code << shift;
      if (shift + bits > 32) words[at + 1] |= code >>> (32 - shift);
    }
  }
  return words;
}

/** The first `columns` codes of every row of `wordCount(columns)` words: [rows, columns]. */
export function unpackWords(words: Uint32Array, columns: number, bits: number): Uint8Array {
  const length = wordCount(columns, bits);
  const rows = length === 0 ? 0 : words.length / length;
  const mask = 2 ** bits - 1;
  const codes = new Uint8Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const bit = column * bits;
      const at = row * length + (bit >>> 5);
      const shift = bit & 31;
      const high = shift + bits > 32 ? words[at + 1] << (32 - shift) : 0;
      codes[row * columns + column] = ((words[at] >>> shift) | high) & mask;
    }
  }
  return codes;
}

/** [rows, columns] as [columns, rows]. */
export function turned<T extends Uint8Array | Uint16Array | Uint32Array | Float32Array>(
  values: T,
  columns: number,
): T {
  const rows = columns === 0 ? 0 : values.length / columns;
  const result = new (values.constructor as new (length: number) => T)(values.length);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++)
      result[column * rows + row] = values[row * columns + column];
  }
  return result;
}
