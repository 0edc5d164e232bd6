// Rounding that is trained, one step of signed gradient descent (SignRound, arXiv:2309.05516): each weight has an offset
// V in steps of the grid, each group of `length` along a row the factors of the two ends of its range,
//   W' = s clip(floor(W / s + V), -z, top - z),   s = (alpha high + beta low) / top,   z = floor(beta low / s + 0.5).
// Row-major [rows, pitch], pitch a multiple of 4 and zeros in what fills it up; an item is a row. What belongs to groups
// is [rows, groups], their ends [rows, groups, 4] as double: low, high, beta, alpha.

import { storedScale } from './fit';
import { sum } from './lanes';

/** Of scales: 2^-24. */
const smallest: f64 = 5.9604644775390625e-8;

/**
 * @param flow gradients by W'; the next W' are written over them
 * @param moving 0: ranges stay; 1: alpha alone, and the zero point stays; 2: both ends
 * @param form of scales, as `fit` has it
 */
export function stepRounding(first: i32, last: i32, scratch: usize, flow: usize, weights: usize, offsets: usize, columns: i32, pitch: i32, length: i32, scales: usize, zeros: usize, ends: usize, top: f32, moving: i32, form: i32, rate: f32, rangeRate: f64): void {
  const groups = (columns + length - 1) / length;
  for (let row = first; row < last; row++) {
    for (let group = 0; group < groups; group++) {
      const own = <usize>(row * groups + group);
      const start = group * length;
      const offset = ((<usize>row * pitch) + start) << 2;
      const count = min(length, columns - start);
      const scaleAt = scales + (own << 2);
      const zeroAt = zeros + (own << 2);
      stepOffsets(flow + offset, weights + offset, offsets + offset, count, load<f32>(scaleAt), load<f32>(zeroAt), top, rate, scratch);
      if (moving) stepRange(scaleAt, zeroAt, ends + (own << 5), load<f32>(scratch), load<f32>(scratch, 4), top, moving, form, rangeRate);
      spread(flow + offset, weights + offset, offsets + offset, count, load<f32>(scaleAt), load<f32>(zeroAt), top);
    }
  }
}

/** Which of four lanes are among the next so many. */
// @ts-ignore: decorator
@inline
function within(left: i32): v128 {
  return i32x4.lt_s(i32x4(0, 1, 2, 3), i32x4.splat(left));
}

/** Rounding passes gradients on as if it were not there. Puts those by the scale and by all that is beyond an end at `slopes`. */
function stepOffsets(flow: usize, weights: usize, offsets: usize, count: i32, scale: f32, zero: f32, top: f32, rate: f32, slopes: usize): void {
  const least = f32x4.splat(0 - zero);
  const most = f32x4.splat(top - zero);
  let toScale = f32x4.splat(0);
  let beyond = f32x4.splat(0);
  for (let i = 0; i < count; i += 4) {
    const at = <usize>i << 2;
    const slope = v128.and(v128.load(flow + at), within(count - i));
    const offset = v128.load(offsets + at);
    const exact = f32x4.div(v128.load(weights + at), f32x4.splat(scale));
    const free = f32x4.floor(f32x4.add(exact, offset));
    const code = f32x4.min(f32x4.max(free, least), most);
    const inside = f32x4.eq(free, code);
    toScale = f32x4.add(toScale, f32x4.mul(slope, f32x4.sub(code, v128.and(exact, inside))));
    beyond = f32x4.add(beyond, v128.andnot(slope, inside));
    const size = v128.and(v128.and(inside, f32x4.ne(slope, f32x4.splat(0))), f32x4.splat(rate));
    const signed = v128.or(size, v128.and(slope, f32x4.splat(-0.0)));
    v128.store(offsets + at, f32x4.sub(offset, signed));
  }
  store<f32>(slopes, sum(toScale));
  store<f32>(slopes, sum(beyond), 4);
}

/** A middle that does not move leaves one factor for both ends. */
function stepRange(scaleAt: usize, zeroAt: usize, ends: usize, toScale: f64, beyond: f64, top: f64, moving: i32, form: i32, rate: f64): void {
  const low = load<f64>(ends);
  const high = load<f64>(ends, 8);
  let beta = load<f64>(ends, 16);
  let alpha = load<f64>(ends, 24);
  const scale = <f64>load<f32>(scaleAt);
  if (moving == 1) {
    alpha -= rate * signOf(toScale);
    store<f64>(ends, alpha, 24);
    store<f32>(scaleAt, storedScale(<f32>max((alpha * (low + high)) / top, smallest), form));
    return;
  }
  const toZero = -scale * beyond;
  const shift = (toZero * beta * low) / (scale * scale) / top;
  beta -= rate * signOf((toScale / top + toZero / scale - shift) * low);
  alpha -= rate * signOf((toScale / top - shift) * high);
  store<f64>(ends, beta, 16);
  store<f64>(ends, alpha, 24);
  const next = storedScale(<f32>max((beta * low + alpha * high) / top, smallest), form);
  store<f32>(scaleAt, next);
  store<f32>(zeroAt, <f32>min(max(floor((beta * low) / <f64>next + 0.5), 0), top));
}

// @ts-ignore: decorator
@inline
function signOf(x: f64): f64 {
  return x > 0 ? 1 : x < 0 ? -1 : 0;
}

/** What codes stand for; what belongs to the next group stays. */
function spread(to: usize, weights: usize, offsets: usize, count: i32, scale: f32, zero: f32, top: f32): void {
  const least = f32x4.splat(0 - zero);
  const most = f32x4.splat(top - zero);
  for (let i = 0; i < count; i += 4) {
    const at = <usize>i << 2;
    const exact = f32x4.div(v128.load(weights + at), f32x4.splat(scale));
    const code = f32x4.min(f32x4.max(f32x4.floor(f32x4.add(exact, v128.load(offsets + at))), least), most);
    v128.store(to + at, v128.bitselect(f32x4.mul(code, f32x4.splat(scale)), v128.load(to + at), within(count - i)));
  }
}
