// Integer codes that are trained, one step of Adam (Kingma and Ba 2015): each has a latent number u that it is the
// nearest of, each group of `length` along a row a relative change t of its scale, w = (clip(nearest(u)) - zero) scale
// (1 + t). Row-major [rows, columns]; an item is a row. What belongs to groups is [rows, groups], as double where it
// moves. Betas are 0.9 and 0.95, as in latents-twin.ts.

import { sum } from './lanes';

// Gradients may be tiny: only a 0 is kept from dividing by itself.
const epsilon: f32 = 1e-20;

// @ts-ignore: decorator
@inline
function nearestOf(u: v128): v128 {
  return f32x4.floor(f32x4.add(u, f32x4.splat(0.5)));
}

/**
 * @param flow gradients by w; the next w are written over them
 * @param pace the codes' rate, over 1 - 0.9^step; `scalePace` is the scales'
 * @param correction 1 / (1 - 0.95^step)
 */
export function stepLatents(first: i32, last: i32, scratch: usize, flow: usize, latents: usize, means: usize, squares: usize, columns: i32, length: i32, scales: usize, zeros: usize, changes: usize, moments: usize, least: f32, greatest: f32, pace: f32, correction: f32, scalePace: f64, scaleCorrection: f64): void {
  const groups = (columns + length - 1) / length;
  for (let row = first; row < last; row++) {
    for (let group = 0; group < groups; group++) {
      const own = <usize>(row * groups + group);
      const start = group * length;
      const offset = ((<usize>row * columns) + start) << 2;
      const count = min(length, columns - start);
      const change = changes + (own << 3);
      const before = load<f32>(scales + (own << 2));
      const zero = load<f32>(zeros + (own << 2));
      const scale = <f32>(<f64>before * (1 + load<f64>(change)));
      const slope = stepCodes(offset, count, flow, latents, means, squares, scale, zero, least, greatest, pace, correction);
      stepScale(change, moments + (own << 4), <f64>slope * before, scalePace, scaleCorrection);
      const next = <f32>(<f64>before * (1 + load<f64>(change)));
      spread(flow + offset, latents + offset, count, next, zero, least, greatest);
    }
  }
}

/** @returns the sum of gradient times code, before anything moved */
function stepCodes(offset: usize, count: i32, flow: usize, latents: usize, means: usize, squares: usize, scale: f32, zero: f32, least: f32, greatest: f32, pace: f32, correction: f32): f32 {
  let slopes = f32x4.splat(0);
  let at = offset;
  const whole = offset + (<usize>(count & ~3) << 2);
  for (; at < whole; at += 16) {
    const gradient = v128.load(flow + at);
    const u = v128.load(latents + at);
    const free = nearestOf(u);
    const code = f32x4.min(f32x4.max(free, f32x4.splat(least)), f32x4.splat(greatest));
    slopes = f32x4.add(slopes, f32x4.mul(gradient, f32x4.sub(code, f32x4.splat(zero))));
    // Clipped codes get none.
    const own = v128.and(f32x4.mul(gradient, f32x4.splat(scale)), f32x4.eq(free, code));
    let mean = v128.load(means + at);
    mean = f32x4.add(mean, f32x4.mul(f32x4.splat(0.1), f32x4.sub(own, mean)));
    let square = v128.load(squares + at);
    square = f32x4.add(square, f32x4.mul(f32x4.splat(0.05), f32x4.sub(f32x4.mul(own, own), square)));
    v128.store(means + at, mean);
    v128.store(squares + at, square);
    const size = f32x4.add(f32x4.sqrt(f32x4.mul(square, f32x4.splat(correction))), f32x4.splat(epsilon));
    v128.store(latents + at, f32x4.sub(u, f32x4.div(f32x4.mul(f32x4.splat(pace), mean), size)));
  }
  let slope = sum(slopes);
  const end = offset + (<usize>count << 2);
  for (; at < end; at += 4) {
    const gradient = load<f32>(flow + at);
    const u = load<f32>(latents + at);
    const free = floor<f32>(u + 0.5);
    const code = min(max(free, least), greatest);
    slope += gradient * (code - zero);
    const own: f32 = free == code ? gradient * scale : 0;
    let mean = load<f32>(means + at);
    mean += <f32>0.1 * (own - mean);
    let square = load<f32>(squares + at);
    square += <f32>0.05 * (own * own - square);
    store<f32>(means + at, mean);
    store<f32>(squares + at, square);
    store<f32>(latents + at, u - (pace * mean) / (sqrt<f32>(square * correction) + epsilon));
  }
  return slope;
}

function stepScale(change: usize, moments: usize, slope: f64, pace: f64, correction: f64): void {
  const mean = load<f64>(moments) + 0.1 * (slope - load<f64>(moments));
  const square = load<f64>(moments, 8) + 0.05 * (slope * slope - load<f64>(moments, 8));
  store<f64>(moments, mean);
  store<f64>(moments, square, 8);
  store<f64>(change, load<f64>(change) - (pace * mean) / (sqrt<f64>(square * correction) + epsilon));
}

function spread(to: usize, from: usize, count: i32, scale: f32, zero: f32, least: f32, greatest: f32): void {
  const whole = <usize>(count & ~3) << 2;
  let at: usize = 0;
  for (; at < whole; at += 16) {
    const code = f32x4.min(f32x4.max(nearestOf(v128.load(from + at)), f32x4.splat(least)), f32x4.splat(greatest));
    v128.store(to + at, f32x4.mul(f32x4.sub(code, f32x4.splat(zero)), f32x4.splat(scale)));
  }
  for (; at < <usize>count << 2; at += 4) {
    const code = min(max(floor<f32>(load<f32>(from + at) + 0.5), least), greatest);
    store<f32>(to + at, (code - zero) * scale);
  }
}
