import { describe, expect, it } from 'vitest';
import { random } from '../base/random.ts';
import { pack, packedLength, unpack } from './pack.ts';

describe('packed codes', () => {
  it('have the first code in the lowest bits', () => {
    expect(pack(Uint8Array.of(1, 2, 3), 3, 4)).toEqual(Uint8Array.of(0x21, 0x03));
    expect(pack(Uint8Array.of(1, 2, 3, 0, 1), 5, 2)).toEqual(Uint8Array.of(0b00111001, 1));
    expect(pack(Uint8Array.of(7, 200), 2, 8)).toEqual(Uint8Array.of(7, 200));
  });

  it('start every row at a byte and fill its end', () => {
    expect(pack(Uint8Array.of(1, 2, 3, 4, 5, 6), 3, 4, 6, 9)).toEqual(
      Uint8Array.of(0x21, 0x93, 0x99, 0x54, 0x96, 0x99),
    );
  });

  it.each([2, 4, 8] as const)('come back at %i bits', (width) => {
    const { integer } = random(width);
    for (const columns of [1, 3, 8, 33]) {
      const codes = Uint8Array.from({ length: 5 * columns }, () => integer(2 ** width));
      for (const length of [columns, columns + 5]) {
        const packed = pack(codes, columns, width, length);
        expect(packed.length).toBe(5 * packedLength(length, width));
        expect(unpack(packed, packedLength(length, width), columns, width)).toEqual(codes);
      }
    }
  });
});
