/**
 * Floating-point numbers of four and eight bits, as tables of what each code stands for: the formats of the OCP 8-bit
 * Floating Point Specification (2023, E4M3 and E5M2) and of OCP Microscaling Formats (2023, E2M1).
 */

export interface Minifloat {
  readonly exponentBits: number;
  readonly fractionBits: number;
  /** Codes with all ones for an exponent: numbers, but for the last of them; no numbers at all; all of them numbers. */
  readonly top: 'last is NaN' | 'no numbers' | 'numbers';
}

/** Values by code, sign first; NaN where a code is no finite number. */
export function minifloat({ exponentBits, fractionBits, top }: Minifloat): Float32Array {
  const [steps, half] = [2 ** fractionBits, 2 ** (exponentBits + fractionBits)];
  const bias = 2 ** (exponentBits - 1) - 1;
  const finite = { 'last is NaN': half - 1, 'no numbers': half - steps, numbers: half }[top];
  return Float32Array.from({ length: 2 * half }, (_, code) => {
    const size = code % half;
    if (size >= finite) return Number.NaN;
    const [exponent, fraction] = [Math.floor(size / steps), (size % steps) / steps];
    const value = exponent === 0 ? fraction * 2 ** (1 - bias) : (1 + fraction) * 2 ** (exponent - bias);
    return code < half ? value : -value;
  });
}

export const e2m1 = minifloat({ exponentBits: 2, fractionBits: 1, top: 'numbers' });
/** Without infinities ("fn"): the largest is 448. */
export const e4m3 = minifloat({ exponentBits: 4, fractionBits: 3, top: 'last is NaN' });
export const e5m2 = minifloat({ exponentBits: 5, fractionBits: 2, top: 'no numbers' });
/** Powers of two from 2^-127 on, without a sign. */
export const e8m0 = Float32Array.from({ length: 256 }, (_, code) =>
  code === 255 ? Number.NaN : 2 ** (code - 127),
);
