// Codes, scales and minima of parts of weights that share them, w = scale * (code - zero) - minimum, chosen together
// under a quadratic error (x - w) R R^T (x - w)^T with R = U^-1 upper triangular: codes one after the other, each error
// taken out of the weights after it, for every scale that is tried. Sixteen rows at a time.
//
// What a type can store is its form: scales and minima are float16 where there are no units, else whole numbers from
// `least` to `most` (minima from 0) times the units of their super-block. With zero points (2 for `offset`) a minimum is
// a whole number of scales, from 0 to `top`.
//
// An item is a tile of 16 rows; `Sixteen` below is 16 floats, one a row, 64 bytes.

import { bytesOf, codeOf } from './round';

/** Stands for a scale of 0: every code then means next to nothing. */
const leastScale: f32 = 1e-30;
/** A candidate has to be better by so much, so that nothing moves in circles. */
const margin: f32 = 1 - 1e-6;
/** Shares of the first scale that are tried in the sweep: from the first on, so far apart. */
const firstShare: f32 = 0.8;
const shareStep: f32 = 0.05;
const shareCount = 7;
/** `withMinima`, where minima are zero points times scales. */
const zeroPoints = 2;
/** What is tried on either side of a scale that is not a number of units, as a share of it. */
const nudge: f32 = 0.025;

// Of the part in hand; each thread has its own.
let part: i32, zero: f32, top: f32, withMinima: i32, least: f32, most: f32;
// Where the units are of its super-block, 16 floats each, or 0.
let unitAt: usize, minimumUnitAt: usize;
// U^T of the part.
let u: usize, pitch: usize;
// Scratch: [part] Sixteens of the target, the best and the tried codes, their errors, and two for least squares; then
// Sixteens of scales, minima and losses.
let x: usize, bestCodes: usize, codes: usize, bestErrors: usize, errors: usize, p: usize, ones: usize;
let bestScale: usize, scale: usize, bestMinimum: usize, minimum: usize, bestLoss: usize, loss: usize, firstScale: usize, firstMinimum: usize;

/** Bytes of scratch before what else a kernel keeps: 7 arrays and 8 Sixteens. */
function layOut(scratch: usize, size: i32): usize {
  part = size;
  const bytes = <usize>size << 6;
  x = scratch;
  bestCodes = x + bytes;
  codes = bestCodes + bytes;
  bestErrors = codes + bytes;
  errors = bestErrors + bytes;
  p = errors + bytes;
  ones = p + bytes;
  bestScale = ones + bytes;
  scale = bestScale + 64;
  bestMinimum = scale + 64;
  minimum = bestMinimum + 64;
  bestLoss = minimum + 64;
  loss = bestLoss + 64;
  firstScale = loss + 64;
  firstMinimum = firstScale + 64;
  return firstMinimum + 64;
}

/**
 * GPTQ inside a block of columns whose parts lie together: scales and minima of a part are chosen when its turn comes.
 *
 * w        [columns, stride] weights with the errors of all earlier blocks taken out
 * origin   [columns, stride] weights as they were; becomes origin - q
 * inverse  [columns, rowPitch] U^T of the block
 * which    int32 [columns / size]: row of `scales` and `minima` [.., stride] of each part
 * units    [super-blocks, stride] of scales, behind them of minima; 0 for float16
 * target   uint8 [columns, stride]
 */
export function sweepParts(first: i32, last: i32, scratch: usize, w: usize, origin: usize, columns: i32, stride: i32, inverse: usize, rowPitch: i32, size: i32, which: usize, scales: usize, minima: usize, target: usize, units: usize, minimumUnits: usize, together: i32, low: f32, high: f32, zeroCode: f32, topCode: f32, offset: i32): void {
  const all = layOut(scratch, size);
  const step = <usize>stride << 2;
  pitch = <usize>rowPitch << 2;
  zero = zeroCode, top = topCode, withMinima = offset, least = low, most = high;
  for (let tile = first; tile < last; tile++) {
    const lane = <usize>tile << 6;
    for (let start = 0; start < columns; start += size) {
      for (let i = 0; i < size; i++) copy(x + (<usize>i << 6), w + <usize>(start + i) * step + lane);
      subtract(x, 64, size, all, inverse + <usize>start * pitch, pitch, start);
      u = inverse + <usize>start * pitch + (<usize>start << 2);
      const index = i32.load(which + (<usize>(start / size) << 2));
      const at = <usize>index * step + lane;
      locate(units, minimumUnits, <usize>(index / together) * step + lane);
      copy(bestScale, scales + at);
      copy(bestMinimum, minima + at);
      fill(bestLoss, Infinity);
      copy(scale, bestScale);
      copy(minimum, bestMinimum);
      attempt();
      span();
      refine();
      refine();
      copy(scales + at, bestScale);
      copy(minima + at, bestMinimum);
      memory.copy(all + (<usize>start << 6), bestErrors, <usize>size << 6);
      for (let i = 0; i < size; i++) {
        const from = origin + <usize>(start + i) * step + lane;
        for (let quarter: usize = 0; quarter < 64; quarter += 16) {
          v128.store(from + quarter, f32x4.sub(v128.load(from + quarter), valueAt((<usize>i << 6) + quarter, quarter)));
        }
        storeCodes(i, target + <usize>(start + i) * <usize>stride + (<usize>tile << 4));
      }
    }
  }
}

/**
 * Goes over the parts of a panel of columns again, each under its own block of the Gram matrix H, the others as they
 * are: x = q - g H_JJ^-1. Takes nothing that is worse.
 *
 * q        [columns, stride] values; become the new ones
 * g        [columns, stride] (q - w) H of these columns
 * gram     [columns, columns] H of the panel
 * inverse  [columns, size] U^T of every part
 * the others as in `sweepParts`
 */
export function descendParts(first: i32, last: i32, scratch: usize, q: usize, g: usize, columns: i32, stride: i32, gram: usize, inverse: usize, size: i32, which: usize, scales: usize, minima: usize, target: usize, units: usize, minimumUnits: usize, together: i32, low: f32, high: f32, zeroCode: f32, topCode: f32, offset: i32): void {
  layOut(scratch, size);
  const step = <usize>stride << 2;
  pitch = <usize>size << 2;
  zero = zeroCode, top = topCode, withMinima = offset, least = low, most = high;
  for (let tile = first; tile < last; tile++) {
    const lane = <usize>tile << 6;
    for (let from = 0; from < columns; from += size) {
      u = inverse + <usize>from * pitch;
      const here = <usize>from * step + lane;
      const index = i32.load(which + (<usize>(from / size) << 2));
      const at = <usize>index * step + lane;
      locate(units, minimumUnits, <usize>(index / together) * step + lane);
      copy(bestScale, scales + at);
      copy(bestMinimum, minima + at);
      fill(bestLoss, 0);
      // -t = -g U^T are the errors as things are, and x = q - t U.
      for (let i = 0; i < size; i++) {
        const e = bestErrors + (<usize>i << 6);
        below(e, g + here, step, i);
        for (let quarter: usize = 0; quarter < 64; quarter += 16) {
          const each = v128.load(e + quarter);
          v128.store(errors + (<usize>i << 6) + quarter, f32x4.neg(each));
          v128.store(bestLoss + quarter, f32x4.add(v128.load(bestLoss + quarter), f32x4.mul(each, each)));
        }
      }
      for (let i = 0; i < size; i++) {
        const to = x + (<usize>i << 6);
        copy(to, q + here + <usize>i * step);
        minus(to, errors, u + <usize>i * pitch, i + 1);
        loadCodes(i, target + <usize>(from + i) * <usize>stride + (<usize>tile << 4));
      }
      copy(scale, bestScale);
      copy(minimum, bestMinimum);
      attempt();
      refine();
      copy(scales + at, bestScale);
      copy(minima + at, bestMinimum);
      for (let i = 0; i < size; i++) {
        const old = q + here + <usize>i * step;
        const change = errors + (<usize>i << 6);
        for (let quarter: usize = 0; quarter < 64; quarter += 16) {
          const value = valueAt((<usize>i << 6) + quarter, quarter);
          v128.store(change + quarter, f32x4.sub(v128.load(old + quarter), value));
          v128.store(old + quarter, value);
        }
        storeCodes(i, target + <usize>(from + i) * <usize>stride + (<usize>tile << 4));
      }
      const next = from + size;
      const rows = gram + ((<usize>next * <usize>columns + <usize>from) << 2);
      subtract(g + <usize>next * step + lane, step, columns - next, errors, rows, <usize>columns << 2, size);
    }
  }
}

/** Tries scales around the first, the middle of what the codes reach kept where it is. */
function span(): void {
  copy(firstScale, bestScale);
  copy(firstMinimum, bestMinimum);
  for (let i = 0; i < shareCount; i++) {
    const share = f32x4.splat(firstShare + shareStep * <f32>i);
    for (let quarter: usize = 0; quarter < 64; quarter += 16) {
      const s = v128.load(firstScale + quarter);
      const candidate = f32x4.mul(s, share);
      put(quarter, candidate, centred(v128.load(firstMinimum + quarter), s, candidate));
    }
    attempt();
  }
}

/** The best scale and minimum for the best codes, and their neighbours. */
function refine(): void {
  leastSquares();
  attempt();
  for (let sign: f32 = -1; sign <= 1; sign += 2) {
    for (let quarter: usize = 0; quarter < 64; quarter += 16) {
      const s = v128.load(bestScale + quarter), m = v128.load(bestMinimum + quarter);
      const by = unitAt ? v128.load(unitAt + quarter) : f32x4.mul(s, f32x4.splat(nudge));
      const candidate = f32x4.add(s, f32x4.mul(by, f32x4.splat(sign)));
      // The zero point stays.
      put(quarter, candidate, withMinima == zeroPoints ? f32x4.mul(m, f32x4.div(candidate, nonZero(s))) : m);
    }
    attempt();
  }
  if (withMinima == zeroPoints) {
    for (let sign: f32 = -1; sign <= 1; sign += 2) {
      for (let quarter: usize = 0; quarter < 64; quarter += 16) {
        const s = v128.load(bestScale + quarter);
        put(quarter, s, f32x4.add(v128.load(bestMinimum + quarter), f32x4.mul(s, f32x4.splat(sign))));
      }
      attempt();
    }
    return;
  }
  if (!withMinima || !unitAt) return;
  // Both numbers, then the minimum's alone.
  for (let alone = 0; alone < 2; alone++) {
    for (let sign: f32 = -1; sign <= 1; sign += 2) {
      const by = f32x4.splat(alone ? 0 : sign);
      for (let quarter: usize = 0; quarter < 64; quarter += 16) {
        const s = f32x4.mul(v128.load(unitAt + quarter), by);
        const m = f32x4.mul(v128.load(minimumUnitAt + quarter), f32x4.splat(sign));
        put(quarter, f32x4.add(v128.load(bestScale + quarter), s), f32x4.add(v128.load(bestMinimum + quarter), m));
      }
      attempt();
    }
  }
}

/** With P = codes R and O = ones R: the least |e - ds P + dm O|^2. */
function leastSquares(): void {
  const z = f32x4.splat(zero);
  for (let i = 0; i < part; i++) {
    const at = <usize>i << 6;
    for (let quarter: usize = 0; quarter < 64; quarter += 16) {
      v128.store(p + at + quarter, f32x4.sub(v128.load(bestCodes + at + quarter), z));
    }
    if (withMinima) fill(ones + at, 1);
  }
  solve(p);
  if (withMinima) solve(ones);
  for (let quarter: usize = 0; quarter < 64; quarter += 16) {
    let pp = f32x4.splat(0), po = pp, oo = pp, ep = pp, eo = pp;
    for (let i = 0; i < part; i++) {
      const at = (<usize>i << 6) + quarter;
      const e = v128.load(bestErrors + at), c = v128.load(p + at);
      pp = f32x4.add(pp, f32x4.mul(c, c));
      ep = f32x4.add(ep, f32x4.mul(e, c));
      if (withMinima) {
        const o = v128.load(ones + at);
        po = f32x4.add(po, f32x4.mul(c, o));
        oo = f32x4.add(oo, f32x4.mul(o, o));
        eo = f32x4.add(eo, f32x4.mul(e, o));
      }
    }
    const s = v128.load(bestScale + quarter), m = v128.load(bestMinimum + quarter);
    if (!withMinima) {
      put(quarter, v128.bitselect(f32x4.add(s, f32x4.div(ep, pp)), s, f32x4.gt(pp, f32x4.splat(0))), m);
      continue;
    }
    const product = f32x4.mul(pp, oo);
    const d = f32x4.sub(product, f32x4.mul(po, po));
    const sound = f32x4.gt(d, f32x4.mul(product, f32x4.splat(1e-5)));
    const ds = f32x4.div(f32x4.sub(f32x4.mul(oo, ep), f32x4.mul(po, eo)), d);
    const dm = f32x4.div(f32x4.sub(f32x4.mul(po, ep), f32x4.mul(pp, eo)), d);
    put(quarter, v128.bitselect(f32x4.add(s, ds), s, sound), v128.bitselect(f32x4.add(m, dm), m, sound));
  }
}

/** Sixteens y become y R: e U = y from the first column on. */
function solve(y: usize): void {
  let i = 0;
  for (; i + 2 <= part; i += 2) {
    const at = y + (<usize>i << 6);
    const row = u + <usize>i * pitch;
    minusTwo(at, at + 64, y, row, row + pitch, i);
    divide(at, row + (<usize>i << 2));
    minus(at + 64, at, row + pitch + (<usize>i << 2), 1);
    divide(at + 64, row + pitch + (<usize>(i + 1) << 2));
  }
  if (i < part) {
    const row = u + <usize>i * pitch;
    minus(y + (<usize>i << 6), y, row, i);
    divide(y + (<usize>i << 6), row + (<usize>i << 2));
  }
}

// @ts-ignore: decorator
@inline
function divide(at: usize, by: usize): void {
  const pivot = v128.load32_splat(by);
  for (let quarter: usize = 0; quarter < 64; quarter += 16) v128.store(at + quarter, f32x4.div(v128.load(at + quarter), pivot));
}

/** Rounds the target with `scale` and `minimum`, and keeps the rows where that is better. */
function attempt(): void {
  fill(loss, 0);
  memory.copy(errors, x, <usize>part << 6);
  let i = 0;
  for (; i + 2 <= part; i += 2) {
    const at = <usize>i << 6;
    const row = u + <usize>i * pitch;
    minusTwo(errors + at, errors + at + 64, errors, row, row + pitch, i);
    roundLine(at, row + (<usize>i << 2));
    minus(errors + at + 64, errors + at, row + pitch + (<usize>i << 2), 1);
    roundLine(at + 64, row + pitch + (<usize>(i + 1) << 2));
  }
  if (i < part) {
    const at = <usize>i << 6;
    const row = u + <usize>i * pitch;
    minus(errors + at, errors, row, i);
    roundLine(at, row + (<usize>i << 2));
  }
  for (let quarter: usize = 0; quarter < 64; quarter += 16) {
    const best = v128.load(bestLoss + quarter), now = v128.load(loss + quarter);
    const better = f32x4.lt(now, f32x4.mul(best, f32x4.splat(margin)));
    if (!v128.any_true(better)) continue;
    take(bestLoss + quarter, loss + quarter, better);
    take(bestScale + quarter, scale + quarter, better);
    take(bestMinimum + quarter, minimum + quarter, better);
    for (let i = 0; i < part; i++) {
      const at = (<usize>i << 6) + quarter;
      take(bestCodes + at, codes + at, better);
      take(bestErrors + at, errors + at, better);
    }
  }
}

/** Puts codes and their errors in place of what is to be rounded. */
// @ts-ignore: decorator
@inline
function roundLine(at: usize, by: usize): void {
  const z = f32x4.splat(zero), t = f32x4.splat(top), pivot = v128.load32_splat(by);
  for (let quarter: usize = 0; quarter < 64; quarter += 16) {
    const v = v128.load(errors + at + quarter), m = v128.load(minimum + quarter);
    const s = nonZero(v128.load(scale + quarter));
    const code = codeOf(f32x4.add(v, m), s, z, t);
    const value = f32x4.sub(f32x4.mul(s, f32x4.sub(code, z)), m);
    const e = f32x4.div(f32x4.sub(v, value), pivot);
    v128.store(codes + at + quarter, code);
    v128.store(errors + at + quarter, e);
    v128.store(loss + quarter, f32x4.add(v128.load(loss + quarter), f32x4.mul(e, e)));
  }
}

/** Sets the scale and minimum to try, as the type can store them. */
// @ts-ignore: decorator
@inline
function put(quarter: usize, s: v128, m: v128): void {
  if (!unitAt) {
    const stored = half(s);
    v128.store(scale + quarter, stored);
    if (withMinima == zeroPoints) {
      const point = f32x4.pmin(f32x4.pmax(f32x4.nearest(f32x4.div(m, nonZero(stored))), f32x4.splat(0)), f32x4.splat(top));
      v128.store(minimum + quarter, f32x4.mul(stored, point));
    } else if (withMinima) v128.store(minimum + quarter, half(m));
    else v128.store(minimum + quarter, f32x4.splat(0));
    return;
  }
  v128.store(scale + quarter, whole(s, v128.load(unitAt + quarter), least));
  if (withMinima) v128.store(minimum + quarter, whole(m, v128.load(minimumUnitAt + quarter), 0));
  else v128.store(minimum + quarter, f32x4.splat(0));
}

/** The nearest of least to most units; 0 where the unit is. */
// @ts-ignore: decorator
@inline
function whole(value: v128, unit: v128, from: f32): v128 {
  const count = f32x4.pmin(f32x4.pmax(f32x4.nearest(f32x4.div(value, unit)), f32x4.splat(from)), f32x4.splat(most));
  return v128.bitselect(f32x4.mul(count, unit), f32x4.splat(0), f32x4.ne(unit, f32x4.splat(0)));
}

/** The nearest float16, halves to the even one; beyond its range, its end. */
// @ts-ignore: decorator
@inline
function half(value: v128): v128 {
  const size = f32x4.abs(value);
  const even = v128.and(i32x4.shr_u(size, 13), i32x4.splat(1));
  const normal = v128.and(i32x4.add(i32x4.add(size, i32x4.splat(0xfff)), even), i32x4.splat(~0x1fff));
  // Below the normal range all have one distance, that of float32's from 0.5 on.
  const spaced = f32x4.sub(f32x4.add(size, f32x4.splat(0.5)), f32x4.splat(0.5));
  const rounded = v128.bitselect(spaced, normal, f32x4.lt(size, f32x4.splat(0.00006103515625)));
  const sign = v128.and(value, i32x4.splat(0x80000000));
  return v128.or(f32x4.min(rounded, f32x4.splat(65504)), sign);
}

/** The minimum with which the middle code means what it meant with the first scale. */
// @ts-ignore: decorator
@inline
function centred(m: v128, from: v128, to: v128): v128 {
  return f32x4.add(m, f32x4.mul(f32x4.sub(to, from), f32x4.splat(top / 2 - zero)));
}

// @ts-ignore: decorator
@inline
function valueAt(at: usize, quarter: usize): v128 {
  const s = nonZero(v128.load(bestScale + quarter));
  return f32x4.sub(f32x4.mul(s, f32x4.sub(v128.load(bestCodes + at), f32x4.splat(zero))), v128.load(bestMinimum + quarter));
}

// @ts-ignore: decorator
@inline
function nonZero(s: v128): v128 {
  return v128.bitselect(s, f32x4.splat(leastScale), f32x4.ne(s, f32x4.splat(0)));
}

// @ts-ignore: decorator
@inline
function take(to: usize, from: usize, where: v128): void {
  v128.store(to, v128.bitselect(v128.load(from), v128.load(to), where));
}

function locate(units: usize, minimumUnits: usize, at: usize): void {
  unitAt = units ? units + at : 0;
  minimumUnitAt = units ? minimumUnits + at : 0;
}

function storeCodes(i: i32, to: usize): void {
  const c = bestCodes + (<usize>i << 6);
  v128.store(to, bytesOf(v128.load(c), v128.load(c, 16), v128.load(c, 32), v128.load(c, 48)));
}

function loadCodes(i: i32, from: usize): void {
  const c = bestCodes + (<usize>i << 6);
  for (let k: usize = 0; k < 16; k++) f32.store(c + (k << 2), <f32>load<u8>(from + k));
}

// @ts-ignore: decorator
@inline
function copy(to: usize, from: usize): void {
  v128.store(to, v128.load(from));
  v128.store(to, v128.load(from, 16), 16);
  v128.store(to, v128.load(from, 32), 32);
  v128.store(to, v128.load(from, 48), 48);
}

// @ts-ignore: decorator
@inline
function fill(to: usize, value: f32): void {
  const each = f32x4.splat(value);
  v128.store(to, each);
  v128.store(to, each, 16);
  v128.store(to, each, 32);
  v128.store(to, each, 48);
}

/** A Sixteen less `count` Sixteens times a factor each. */
function minus(to: usize, e: usize, factors: usize, count: i32): void {
  let a0 = v128.load(to), a1 = v128.load(to, 16), a2 = v128.load(to, 32), a3 = v128.load(to, 48);
  for (let k = 0; k < count; k++) {
    const factor = v128.load32_splat(factors);
    a0 = f32x4.sub(a0, f32x4.mul(factor, v128.load(e)));
    a1 = f32x4.sub(a1, f32x4.mul(factor, v128.load(e, 16)));
    a2 = f32x4.sub(a2, f32x4.mul(factor, v128.load(e, 32)));
    a3 = f32x4.sub(a3, f32x4.mul(factor, v128.load(e, 48)));
    factors += 4;
    e += 64;
  }
  v128.store(to, a0);
  v128.store(to, a1, 16);
  v128.store(to, a2, 32);
  v128.store(to, a3, 48);
}

/** Two Sixteens less `count` Sixteens times a factor each, which are loaded once for both. */
function minusTwo(a: usize, b: usize, e: usize, factors: usize, others: usize, count: i32): void {
  let a0 = v128.load(a), a1 = v128.load(a, 16), a2 = v128.load(a, 32), a3 = v128.load(a, 48);
  let b0 = v128.load(b), b1 = v128.load(b, 16), b2 = v128.load(b, 32), b3 = v128.load(b, 48);
  for (let k: usize = 0; k < <usize>count << 2; k += 4) {
    const e0 = v128.load(e), e1 = v128.load(e, 16), e2 = v128.load(e, 32), e3 = v128.load(e, 48);
    const fa = v128.load32_splat(factors + k);
    a0 = f32x4.sub(a0, f32x4.mul(fa, e0));
    a1 = f32x4.sub(a1, f32x4.mul(fa, e1));
    a2 = f32x4.sub(a2, f32x4.mul(fa, e2));
    a3 = f32x4.sub(a3, f32x4.mul(fa, e3));
    const fb = v128.load32_splat(others + k);
    b0 = f32x4.sub(b0, f32x4.mul(fb, e0));
    b1 = f32x4.sub(b1, f32x4.mul(fb, e1));
    b2 = f32x4.sub(b2, f32x4.mul(fb, e2));
    b3 = f32x4.sub(b3, f32x4.mul(fb, e3));
    e += 64;
  }
  v128.store(a, a0);
  v128.store(a, a1, 16);
  v128.store(a, a2, 32);
  v128.store(a, a3, 48);
  v128.store(b, b0);
  v128.store(b, b1, 16);
  v128.store(b, b2, 32);
  v128.store(b, b3, 48);
}

/** `lines` Sixteens, so many bytes apart, less `count` Sixteens each times the factors of its row. */
function subtract(to: usize, step: usize, lines: i32, e: usize, rows: usize, rowStep: usize, count: i32): void {
  let i = 0;
  for (; i + 2 <= lines; i += 2) {
    const row = rows + <usize>i * rowStep;
    minusTwo(to + <usize>i * step, to + <usize>(i + 1) * step, e, row, row + rowStep, count);
  }
  if (i < lines) minus(to + <usize>i * step, e, rows + <usize>i * rowStep, count);
}

/** A Sixteen becomes less the Sixteens of a part from line i on, each times its factor in column i of U^T. */
function below(to: usize, lines: usize, step: usize, i: i32): void {
  let a0 = f32x4.splat(0), a1 = a0, a2 = a0, a3 = a0;
  for (let k = i; k < part; k++) {
    const factor = v128.load32_splat(u + <usize>k * pitch + (<usize>i << 2));
    const line = lines + <usize>k * step;
    a0 = f32x4.sub(a0, f32x4.mul(factor, v128.load(line)));
    a1 = f32x4.sub(a1, f32x4.mul(factor, v128.load(line, 16)));
    a2 = f32x4.sub(a2, f32x4.mul(factor, v128.load(line, 32)));
    a3 = f32x4.sub(a3, f32x4.mul(factor, v128.load(line, 48)));
  }
  v128.store(to, a0);
  v128.store(to, a1, 16);
  v128.store(to, a2, 32);
  v128.store(to, a3, 48);
}
