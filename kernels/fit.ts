// Scale and zero point of groups of `size` columns of w [columns, stride], one pair a row and group: scales and zeros
// [groups, stride] (floats). The range is that of the values and 0, or the shrunken one of least sum |q - w|^2.4
// (GPTQ authors' search: 80 steps of 1%). An item is a tile of 16 rows of one group, group-major; scratch holds a
// tile of one group, 64 bytes a column. The form of scales: 0 for float32, 1 for float16, else float16 of so many
// significant digits, with those below its normal range.

import { codeOf } from './round';

const steps: i32 = 100;
const tried: i32 = 80;

export function fit(first: i32, last: i32, scratch: usize, w: usize, columns: i32, stride: i32, size: i32, scales: usize, zeros: usize, top: f32, symmetric: i32, search: i32, form: i32): void {
  const tiles = stride >> 4;
  for (let item = first; item < last; item++) {
    const group = item / tiles;
    const tile = item % tiles;
    const start = group * size;
    const count = min(size, columns - start);
    const from = w + ((<usize>start * stride + (tile << 4)) << 2);
    const to = (<usize>group * stride + (tile << 4)) << 2;
    if (search) gather(from, count, stride, scratch);
    // The search reads a group many times: from the scratch copy, which lies together.
    const at = search ? scratch : from;
    fitTile(at, search ? 64 : <usize>stride << 2, count, scales + to, zeros + to, top, symmetric, search, form);
  }
}

/** Of `count` columns of a tile that are `step` bytes apart. */
export function fitTile(from: usize, step: usize, count: i32, scales: usize, zeros: usize, top: f32, symmetric: i32, search: i32, form: i32): void {
  let a = f32x4.splat(0), b = a, c = a, d = a;
  let A = a, B = a, C = a, D = a;
  for (let i = 0, next = from; i < count; i++, next += step) {
    const w = v128.load(next), x = v128.load(next, 16), y = v128.load(next, 32), z = v128.load(next, 48);
    a = f32x4.min(a, w);
    A = f32x4.max(A, w);
    b = f32x4.min(b, x);
    B = f32x4.max(B, x);
    c = f32x4.min(c, y);
    C = f32x4.max(C, y);
    d = f32x4.min(d, z);
    D = f32x4.max(D, z);
  }
  fitFour(a, A, from, step, count, scales, zeros, top, symmetric, search, form);
  fitFour(b, B, from + 16, step, count, scales + 16, zeros + 16, top, symmetric, search, form);
  fitFour(c, C, from + 32, step, count, scales + 32, zeros + 32, top, symmetric, search, form);
  fitFour(d, D, from + 48, step, count, scales + 48, zeros + 48, top, symmetric, search, form);
}

function gather(from: usize, count: i32, stride: i32, to: usize): void {
  for (let i = 0; i < count; i++) {
    memory.copy(to, from, 64);
    from += <usize>stride << 2;
    to += 64;
  }
}

/** @param least and `greatest`: of the values and 0 */
function fitFour(least: v128, greatest: v128, from: usize, step: usize, count: i32, scaleAt: usize, zeroAt: usize, top: f32, symmetric: i32, search: i32, form: i32): void {
  const empty = f32x4.eq(f32x4.sub(greatest, least), f32x4.splat(0));
  let low = v128.bitselect(f32x4.splat(-1), least, empty);
  let high = v128.bitselect(f32x4.splat(1), greatest, empty);
  if (symmetric) {
    high = f32x4.max(high, f32x4.neg(low));
    low = f32x4.neg(high);
  }
  const most = f32x4.splat(top);
  const centre = f32x4.splat((top + 1) / 2);
  let scale = scaleOf(low, high, most, form);
  let zero = symmetric ? centre : zeroOf(low, scale, most);
  if (search) {
    let best = loss(from, step, count, scale, zero, most, f32x4.splat(Infinity));
    for (let i = 1; i < tried; i++) {
      const share = f32x4.splat(<f32>(1 - <f64>i / <f64>steps));
      const bottom = f32x4.mul(share, low);
      const candidate = scaleOf(bottom, f32x4.mul(share, high), most, form);
      const offset = symmetric ? centre : zeroOf(bottom, candidate, most);
      if (isWorse(least, greatest, candidate, offset, most, best)) continue;
      const sum = loss(from, step, count, candidate, offset, most, best);
      const better = f32x4.lt(sum, best);
      best = v128.bitselect(sum, best, better);
      scale = v128.bitselect(candidate, scale, better);
      zero = v128.bitselect(offset, zero, better);
    }
  }
  v128.store(scaleAt, scale);
  v128.store(zeroAt, zero);
}

function scaleOf(low: v128, high: v128, most: v128, form: i32): v128 {
  const scale = f32x4.div(f32x4.sub(high, low), most);
  if (form == 0) return scale;
  return form == 1 ? nearestHalf(scale) : nearestShort(scale, form);
}

/** What is stored of one scale. */
export function storedScale(scale: f32, form: i32): f32 {
  return f32x4.extract_lane(scaleOf(f32x4.splat(0), f32x4.splat(scale), f32x4.splat(1), form), 0);
}

// @ts-ignore: decorator
@inline
function zeroOf(low: v128, scale: v128, most: v128): v128 {
  const zero = f32x4.nearest(f32x4.div(f32x4.neg(low), scale));
  return f32x4.min(f32x4.max(zero, f32x4.splat(0)), most);
}

/** What float16 holds of positive numbers; those outside its normal range stay as they are. */
// @ts-ignore: decorator
@inline
function nearestHalf(x: v128): v128 {
  const even = v128.and(i32x4.shr_u(x, 13), i32x4.splat(1));
  const carried = i32x4.add(i32x4.add(x, i32x4.splat(0xfff)), even);
  const rounded = v128.and(carried, i32x4.splat(~0x1fff));
  const normal = v128.and(f32x4.ge(rounded, f32x4.splat(0.00006103515625)), f32x4.le(rounded, f32x4.splat(65504)));
  return v128.bitselect(rounded, x, normal);
}

/** A float16 of so few digits, at least the smallest one; those beyond its range stay as they are. */
// @ts-ignore: decorator
@inline
function nearestShort(x: v128, digits: i32): v128 {
  // Below the normal range all have one distance, that of float32's from 0.5 on.
  const half = f32x4.splat(0.5);
  const spaced = f32x4.max(f32x4.sub(f32x4.add(x, half), half), f32x4.splat(5.9604644775390625e-8));
  const start = v128.bitselect(spaced, x, f32x4.lt(x, f32x4.splat(0.00006103515625)));
  const dropped = 24 - digits;
  const even = v128.and(i32x4.shr_u(start, dropped), i32x4.splat(1));
  const carried = i32x4.add(i32x4.add(start, i32x4.splat((1 << (dropped - 1)) - 1)), even);
  const rounded = v128.and(carried, i32x4.splat(-1 << dropped));
  return v128.bitselect(rounded, x, f32x4.le(rounded, f32x4.splat(65504)));
}

/**
 * Whether the least and the greatest value alone, which a narrow range cuts off most, cost more than all did with the
 * best so far; with a margin for rounding. Where one of them is 0 and no value, it costs nothing.
 */
// @ts-ignore: decorator
@inline
function isWorse(least: v128, greatest: v128, scale: v128, zero: v128, most: v128, best: v128): bool {
  const ends = f32x4.add(errorOf(least, scale, zero, most), errorOf(greatest, scale, zero, most));
  return !v128.any_true(f32x4.le(ends, f32x4.mul(best, f32x4.splat(1.001))));
}

// @ts-ignore: decorator
@inline
function errorOf(value: v128, scale: v128, zero: v128, most: v128): v128 {
  const code = codeOf(value, scale, zero, most);
  return power(f32x4.sub(f32x4.mul(scale, f32x4.sub(code, zero)), value));
}

/** The error of a candidate, or something not below `best` where that much is certain before the end. */
function loss(from: usize, step: usize, count: i32, scale: v128, zero: v128, most: v128, best: v128): v128 {
  let sum = f32x4.splat(0);
  for (let i = 0; i < count; i++, from += step) {
    if ((i & 15) == 15 && !v128.any_true(f32x4.lt(sum, best))) return sum;
    sum = f32x4.add(sum, errorOf(v128.load(from), scale, zero, most));
  }
  return sum;
}

/** |x|^2.4 = (a r^2)^2 with a = x^2 and r = a^(-1/5), the root by Newton's method; below 1e-15 as there. */
// @ts-ignore: decorator
@inline
function power(x: v128): v128 {
  const a = f32x4.pmax(f32x4.mul(x, x), f32x4.splat(1e-30));
  // The bits of a float are nearly its logarithm: C - 1/5 of them start the root within 4%. They are divided by 2^8
  // to fit the 23 bits of a float that starts at 2^23, whose own bits the shift drops.
  const shifted = f32x4.add(f32x4.mul(f32x4.convert_i32x4_s(a), f32x4.splat(-0.2 / 256)), f32x4.splat(1277878272 / 256 + 8388608));
  let r = i32x4.shl(shifted, 8);
  r = newton(newton(newton(r, a), a), a);
  const ar2 = f32x4.mul(a, f32x4.mul(r, r));
  return f32x4.mul(ar2, ar2);
}

/** r (6 - a r^5) / 5. */
// @ts-ignore: decorator
@inline
function newton(r: v128, a: v128): v128 {
  const r2 = f32x4.mul(r, r);
  const ar5 = f32x4.mul(f32x4.mul(a, r), f32x4.mul(r2, r2));
  return f32x4.mul(r, f32x4.sub(f32x4.splat(1.2), f32x4.mul(ar5, f32x4.splat(0.2))));
}
