/** Four and five bits a code in blocks of 32: byte j holds the low bits of codes j and j + 16. */

export function unpackNibbles(bytes: Uint8Array, at: number, codes: Uint8Array, from = 0): void {
  for (let j = 0; j < 16; j++) {
    codes[from + j] = bytes[at + j] & 15;
    codes[from + j + 16] = bytes[at + j] >> 4;
  }
}

export function packNibbles(codes: Uint8Array, from: number, bytes: Uint8Array, at: number): void {
  for (let j = 0; j < 16; j++) bytes[at + j] = (codes[from + j] & 15) | ((codes[from + j + 16] & 15) << 4);
}

/** Bit j of four bytes is the fifth bit of code j. */
export function unpackFifth(bytes: Uint8Array, at: number, codes: Uint8Array): void {
  for (let j = 0; j < 32; j++) codes[j] |= ((bytes[at + (j >> 3)] >> (j & 7)) & 1) << 4;
}

export function packFifth(codes: Uint8Array, bytes: Uint8Array, at: number): void {
  bytes.fill(0, at, at + 4);
  for (let j = 0; j < 32; j++) bytes[at + (j >> 3)] |= (codes[j] >> 4) << (j & 7);
}
