import { describe, expect, it } from 'vitest';
import { packWords, turned, unpackWords, wordCount } from './words.ts';

describe('words of codes', () => {
  it('hold the first code in the lowest bits', () => {
    expect([...packWords(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9), 9, 4)]).toEqual([0x87654321, 9]);
  });

  it('split a code of three bits across two words, 32 codes in three', () => {
    const codes = new Uint8Array(32);
    codes[10] = 0b110; // bits 30 to 32
    codes[21] = 0b011; // bits 63 to 65
    expect(wordCount(32, 3)).toBe(3);
    expect([...packWords(codes, 32, 3)]).toEqual([2 ** 31, 1 + 2 ** 31, 1]);
  });

  it.each([2, 3, 4, 5, 6, 8])('give codes of %i bits back, rows apart', (bits) => {
    const [rows, columns] = [3, 45];
    const codes = Uint8Array.from({ length: rows * columns }, (_, i) => (i * 37) % 2 ** bits);
    const words = packWords(codes, columns, bits);
    expect(words.length).toBe(rows * wordCount(columns, bits));
    expect(unpackWords(words, columns, bits)).toEqual(codes);
  });

  it('are turned, rows for columns', () => {
    expect(turned(Uint16Array.of(1, 2, 3, 4, 5, 6), 3)).toEqual(Uint16Array.of(1, 4, 2, 5, 3, 6));
  });
});
