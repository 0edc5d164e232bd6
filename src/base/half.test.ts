import { describe, expect, it } from 'vitest';
import {
  areNormalHalves,
  bfloatCode,
  bfloatToFloat,
  bfloatValue,
  floatToBfloat,
  floatToHalf,
  halfCode,
  halfToFloat,
  halfValue,
  toFloat32,
} from './half.ts';
import { stored } from './tensor.ts';

const everyCode = Uint16Array.from({ length: 65536 }, (_, code) => code);

/** The definition, in arithmetic rather than bits. */
function binary16(code: number): number {
  const sign = code & 0x8000 ? -1 : 1;
  const exponent = (code >>> 10) & 0x1f;
  const fraction = code & 0x3ff;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : (fraction / 1024) * 2 ** -14);
}

function bits(value: number): number {
  return new Uint32Array(Float32Array.of(value).buffer)[0];
}

function fromBits(code: number): number {
  return new Float32Array(Uint32Array.of(code).buffer)[0];
}

describe('float16', () => {
  it('reads every one of the 65,536 codes as the standard defines it', () => {
    const values = halfToFloat(everyCode);
    const wrong = everyCode.filter(
      (code) => !Object.is(values[code], binary16(code)) || !Object.is(halfValue(code), binary16(code)),
    );
    expect(wrong).toHaveLength(0);
  });

  it('writes back every code it read, NaN as a NaN of the same sign', () => {
    const codes = floatToHalf(halfToFloat(everyCode));
    for (const code of everyCode) {
      const nan = (code & 0x7fff) > 0x7c00;
      if (codes[code] !== (nan ? code | 0x200 : code)) expect([code, codes[code]]).toBe('equal');
    }
    expect(Number.isNaN(halfValue(halfCode(Number.NaN)))).toBe(true);
  });

  it('rounds to nearest between any two neighbours, and ties to the even code', () => {
    for (let code = 0; code < 0x7c00; code++) {
      const low = binary16(code);
      const high = code === 0x7bff ? 65536 : binary16(code + 1);
      const middle = (low + high) / 2; // exact in float32
      const even = code % 2 === 0 ? code : code + 1;
      const found = [fromBits(bits(middle) - 1), middle, fromBits(bits(middle) + 1)].map(halfCode);
      if (found[0] !== code || found[1] !== even || found[2] !== code + 1)
        expect([code, found]).toBe('rounded');
      if (halfCode(-middle) !== (even | 0x8000)) expect(-middle).toBe('rounded');
    }
  });

  it('overflows to infinity and underflows to a signed zero', () => {
    expect(halfCode(65520)).toBe(0x7c00);
    expect(halfCode(65519.99)).toBe(0x7bff);
    expect(halfCode(-1e30)).toBe(0xfc00);
    expect(halfCode(2 ** -25)).toBe(0);
    expect(halfCode(2 ** -25 * 1.0001)).toBe(1);
    expect(halfCode(-1e-40)).toBe(0x8000);
  });

  it('tells whether all of an array are its normal numbers', () => {
    const isNormal = (code: number) => ![0, 31].includes((code >>> 10) & 0x1f);
    for (const code of everyCode)
      expect(areNormalHalves(Float32Array.of(1, halfValue(code)))).toBe(isNormal(code));
    expect(areNormalHalves(Float32Array.of(1, 1 + 2 ** -11, 1))).toBe(false);
    expect(areNormalHalves(Float32Array.of(65520))).toBe(false);
  });

  it('rounds an array without touching it', () => {
    const values = Float32Array.of(1.0001, 70000, -0.1);
    expect([...halfToFloat(floatToHalf(values))]).toEqual([1, Number.POSITIVE_INFINITY, -0.0999755859375]);
    expect(values[1]).toBe(70000);
  });
});

describe('bfloat16', () => {
  it('is the upper half of a float32, for every code there and back', () => {
    const values = bfloatToFloat(everyCode);
    const back = floatToBfloat(values);
    for (const code of everyCode) {
      const value = fromBits(code << 16);
      const nan = (code & 0x7fff) > 0x7f80;
      if (!Object.is(values[code], value) || !Object.is(bfloatValue(code), value)) expect(code).toBe('read');
      if (back[code] !== (nan ? code | 0x40 : code)) expect([code, back[code]]).toBe('written');
    }
  });

  it('rounds to nearest, and ties to the even code', () => {
    for (let code = 0; code < 0x7f80; code++) {
      const middle = code * 65536 + 32768;
      const even = code % 2 === 0 ? code : code + 1;
      const found = [middle - 1, middle, middle + 1].map((value) => bfloatCode(fromBits(value)));
      if (found[0] !== code || found[1] !== even || found[2] !== code + 1)
        expect([code, found]).toBe('rounded');
    }
    expect(bfloatCode(3.4e38)).toBe(0x7f80);
    expect(Number.isNaN(bfloatValue(bfloatCode(fromBits(0x7f800001))))).toBe(true);
  });
});

describe('toFloat32', () => {
  it('reads each float type from bytes at any alignment, into an array of its own', () => {
    const values = [1, -0.5, 3];
    const arrays = {
      float32: Float32Array.from(values),
      float64: Float64Array.from(values),
      float16: floatToHalf(Float32Array.from(values)),
      bfloat16: floatToBfloat(Float32Array.from(values)),
    } as const;
    for (const [dtype, data] of Object.entries(arrays)) {
      const odd = new Uint8Array(data.byteLength + 1);
      odd.set(new Uint8Array(data.buffer), 1);
      for (const view of [data, odd.subarray(1)]) {
        const tensor = stored(dtype as keyof typeof arrays, [3], view);
        toFloat32(tensor).fill(9);
        expect([...toFloat32(tensor)], dtype).toEqual(values);
      }
    }
  });

  it('refuses integers', () => {
    expect(() => toFloat32(stored('int8', [1], Int8Array.of(1)))).toThrow(/int8/);
  });
});
