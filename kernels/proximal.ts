// Half-quadratic quantization (HQQ, Badri and Shaji 2023): scales and zero points that are any numbers, w = (code - zero)
// scale, of groups of `size` columns of w [columns, stride], better step by step. An item is a tile of 16 rows of one
// group, group-major. Scales and zeros are [groups, stride], as are the sums of |w' - w| before the step.

import { bytesOf } from './round';

/** Codes as floats: nearest(w / scale + zero), within 0 and top. */
// @ts-ignore: decorator
@inline
function codeAt(w: v128, scale: v128, zero: v128, top: v128): v128 {
  const code = f32x4.nearest(f32x4.add(f32x4.div(w, scale), zero));
  return f32x4.min(f32x4.max(code, f32x4.splat(0)), top);
}

/** Least and greatest value as the first and the last code. */
export function proximalStart(first: i32, last: i32, scratch: usize, w: usize, columns: i32, stride: i32, size: i32, scales: usize, zeros: usize, top: f32): void {
  const tiles = stride >> 4;
  const step = <usize>stride << 2;
  for (let item = first; item < last; item++) {
    const group = item / tiles;
    const start = group * size;
    const count = min(size, columns - start);
    const lane = <usize>(item % tiles) << 6;
    for (let quarter: usize = 0; quarter < 64; quarter += 16) {
      let from = w + <usize>start * step + lane + quarter;
      const to = <usize>group * step + lane + quarter;
      let low = v128.load(from);
      let high = low;
      for (let i = 1; i < count; i++) {
        from += step;
        const value = v128.load(from);
        low = f32x4.min(low, value);
        high = f32x4.max(high, value);
      }
      const scale = f32x4.div(f32x4.sub(high, low), f32x4.splat(top));
      const flat = f32x4.eq(scale, f32x4.splat(0));
      const some = v128.bitselect(f32x4.splat(1), scale, flat);
      v128.store(scales + to, some);
      // The middle code stands for a group's only value.
      const middle = v128.and(f32x4.splat((top + 1) / 2), flat);
      v128.store(zeros + to, f32x4.sub(middle, f32x4.div(low, some)));
    }
  }
}

/**
 * One step: x = w - shrunk(w - w') takes what is far off out of the error, then the zero point is the mean of
 * code - x / scale; with `both`, the scale is the slope of x over the codes first.
 */
export function proximal(first: i32, last: i32, scratch: usize, w: usize, columns: i32, stride: i32, size: i32, scales: usize, zeros: usize, errors: usize, top: f32, beta: f32, power: f32, both: i32): void {
  const tiles = stride >> 4;
  const step = <usize>stride << 2;
  const most = f32x4.splat(top);
  // |e| - |e|^(p - 1) / beta is positive beyond this.
  const far = f32x4.splat(powerOf(1 / beta, 1 / (2 - power)));
  for (let item = first; item < last; item++) {
    const group = item / tiles;
    const start = group * size;
    const count = min(size, columns - start);
    const lane = <usize>(item % tiles) << 6;
    for (let quarter: usize = 0; quarter < 64; quarter += 16) {
      const origin = w + <usize>start * step + lane + quarter;
      const to = <usize>group * step + lane + quarter;
      const scale = v128.load(scales + to);
      const zero = v128.load(zeros + to);
      let error = f32x4.splat(0);
      let codes = error, targets = error, square = error, cross = error;
      let from = origin;
      for (let i = 0; i < count; i++) {
        const value = v128.load(from);
        const code = f32x4.sub(codeAt(value, scale, zero, most), zero);
        const off = f32x4.sub(value, f32x4.mul(code, scale));
        const distance = f32x4.abs(off);
        let target = f32x4.div(value, scale);
        if (v128.any_true(f32x4.gt(distance, far)))
          target = f32x4.sub(target, f32x4.div(shrunk(off, beta, power), scale));
        error = f32x4.add(error, distance);
        codes = f32x4.add(codes, code);
        targets = f32x4.add(targets, target);
        square = f32x4.add(square, f32x4.mul(code, code));
        cross = f32x4.add(cross, f32x4.mul(code, target));
        from += step;
      }
      v128.store(errors + to, error);
      const n = f32x4.splat(<f32>count);
      const mean = f32x4.div(codes, n);
      let rest = f32x4.div(targets, n);
      if (both) {
        const spread = f32x4.sub(square, f32x4.mul(codes, mean));
        const slope = f32x4.div(f32x4.sub(cross, f32x4.mul(codes, rest)), spread);
        const usable = v128.and(f32x4.gt(spread, f32x4.splat(0.5)), f32x4.gt(slope, f32x4.splat(0.1)));
        const factor = v128.bitselect(slope, f32x4.splat(1), usable);
        v128.store(scales + to, f32x4.mul(scale, factor));
        rest = f32x4.div(rest, factor);
      }
      v128.store(zeros + to, f32x4.add(zero, f32x4.sub(mean, rest)));
    }
  }
}

/** sign(e) max(|e| - |e|^(p - 1) / beta, 0); few groups have a weight that is so far off. */
function shrunk(off: v128, beta: f32, power: f32): v128 {
  let result = f32x4.splat(0);
  result = f32x4.replace_lane(result, 0, shrunkOne(f32x4.extract_lane(off, 0), beta, power));
  result = f32x4.replace_lane(result, 1, shrunkOne(f32x4.extract_lane(off, 1), beta, power));
  result = f32x4.replace_lane(result, 2, shrunkOne(f32x4.extract_lane(off, 2), beta, power));
  return f32x4.replace_lane(result, 3, shrunkOne(f32x4.extract_lane(off, 3), beta, power));
}

function shrunkOne(off: f32, beta: f32, power: f32): f32 {
  const size = abs(off);
  if (size == 0) return 0;
  return copysign(max(size - powerOf(size, power - 1) / beta, <f32>0), off);
}

/**
 * x^y of a positive, normal x by series: the language's own reads tables, for which the shared memory has no place. The
 * logarithm is 2 atanh(t), t = (m - 1) / (m + 1), of a mantissa m between the roots of 1/2 and 2.
 */
function powerOf(x: f32, y: f32): f32 {
  const bits = reinterpret<i64>(<f64>x);
  let exponent = <f64>((bits >> 52) - 1023);
  let mantissa = reinterpret<f64>((bits & 0xfffffffffffff) | 0x3ff0000000000000);
  if (mantissa > 1.4142135623730951) {
    mantissa *= 0.5;
    exponent += 1;
  }
  const t = (mantissa - 1) / (mantissa + 1);
  let series: f64 = 0;
  for (let k = 15; k > 0; k -= 2) series = series * t * t + 1 / <f64>k;
  const scaled = <f64>y * (exponent + 2 * t * series * 1.4426950408889634);
  const whole = nearest(scaled);
  const rest = (scaled - whole) * 0.6931471805599453;
  let sum: f64 = 1;
  for (let k = 12; k > 0; k--) sum = 1 + (sum * rest) / <f64>k;
  return <f32>(sum * reinterpret<f64>((<i64>whole + 1023) << 52));
}

/** Codes, uint8 [columns, stride]. */
export function proximalCodes(first: i32, last: i32, scratch: usize, w: usize, columns: i32, stride: i32, size: i32, scales: usize, zeros: usize, codes: usize, top: f32): void {
  const tiles = stride >> 4;
  const step = <usize>stride << 2;
  const most = f32x4.splat(top);
  for (let item = first; item < last; item++) {
    const group = item / tiles;
    const start = group * size;
    const end = min(start + size, columns);
    const row = (item % tiles) << 4;
    const lane = <usize>row << 2;
    const at = <usize>group * step + lane;
    for (let column = start; column < end; column++) {
      const from = w + <usize>column * step + lane;
      const to = codes + <usize>column * stride + row;
      v128.store(to, bytesOf(
        codeAt(v128.load(from), v128.load(scales + at), v128.load(zeros + at), most),
        codeAt(v128.load(from, 16), v128.load(scales + at, 16), v128.load(zeros + at, 16), most),
        codeAt(v128.load(from, 32), v128.load(scales + at, 32), v128.load(zeros + at, 32), most),
        codeAt(v128.load(from, 48), v128.load(scales + at, 48), v128.load(zeros + at, 48), most),
      ));
    }
  }
}
