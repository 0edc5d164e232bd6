// The searches that quantizing to ggml's blocks makes in every part of `n` weights (16 or 32), four parts abreast, one
// to a lane; so every sum is taken in the order of the plain form (src/encodings/blocks/search.ts) and the bits agree.
//
// x        [parts, n]; the parts are rounded up to whole fours
// rule     how much the squared error of a weight counts: 0 size, 1 size and root mean square, 2 square,
//          3 importance, 4 importance * sqrt(spread + x^2)
// importance [columns], shared by all rows; spreads [parts]
// scales, minima, totals [parts]; codes uint8 [parts, n]
// An item is four parts; scratch holds three vectors for each of n.

const zero: v128 = f32x4.splat(0);
const smallest: f32 = 1e-15;

/** To the nearest whole number, as integers: adding 1.5 * 2^23 leaves it in the low bits; wraps beyond 2^22. */
// @ts-ignore: decorator
@inline
function nearest(value: v128): v128 {
  const bits = v128.and(f32x4.add(value, f32x4.splat(12582912)), i32x4.splat(0x7fffff));
  return i32x4.sub(bits, i32x4.splat(0x400000));
}

/** The same within bounds, as floats. */
// @ts-ignore: decorator
@inline
function nearestWithin(value: v128, low: v128, high: v128): v128 {
  return f32x4.convert_i32x4_s(i32x4.max_s(i32x4.min_s(nearest(value), high), low));
}

/** Four rows of n values into lanes. */
function abreast(from: usize, n: usize, to: usize): void {
  const row = n << 2;
  for (let i: usize = 0; i < row; i += 16) {
    const a = v128.load(from + i);
    const b = v128.load(from + row + i);
    const c = v128.load(from + 2 * row + i);
    const d = v128.load(from + 3 * row + i);
    const ab = v128.shuffle<i32>(a, b, 0, 4, 1, 5), AB = v128.shuffle<i32>(a, b, 2, 6, 3, 7);
    const cd = v128.shuffle<i32>(c, d, 0, 4, 1, 5), CD = v128.shuffle<i32>(c, d, 2, 6, 3, 7);
    const at = to + (i << 2);
    v128.store(at, v128.shuffle<i64>(ab, cd, 0, 2));
    v128.store(at, v128.shuffle<i64>(ab, cd, 1, 3), 16);
    v128.store(at, v128.shuffle<i64>(AB, CD, 0, 2), 32);
    v128.store(at, v128.shuffle<i64>(AB, CD, 1, 3), 48);
  }
}

/** Error weights of four parts; gives their sums. */
function weigh(part: i32, x: usize, n: usize, rule: i32, importance: usize, columns: i32, spreads: usize, to: usize): v128 {
  const length = n << 4;
  if (rule >= 3) {
    // Parts of a row follow each other, and a row is whole parts; rows may end between lanes.
    for (let lane = 0; lane < 4; lane++) {
      const column = <usize>(((part + lane) * <i32>n) % columns);
      for (let i: usize = 0; i < n; i++) {
        f32.store(to + (i << 4) + (<usize>lane << 2), f32.load(importance + ((column + i) << 2)));
      }
    }
  }
  let add = zero;
  if (rule == 1) {
    let squares = zero;
    for (let i: usize = 0; i < length; i += 16) {
      const value = v128.load(x + i);
      squares = f32x4.add(squares, f32x4.mul(value, value));
    }
    add = f32x4.sqrt(f32x4.div(squares, f32x4.splat(<f32>n)));
  } else if (rule == 4) add = v128.load(spreads + (<usize>part << 2));
  let total = zero;
  for (let i: usize = 0; i < length; i += 16) {
    const value = v128.load(x + i);
    let weight: v128;
    if (rule <= 1) weight = f32x4.add(add, f32x4.abs(value));
    else if (rule == 2) weight = f32x4.mul(value, value);
    else {
      weight = v128.load(to + i);
      if (rule == 4) weight = f32x4.mul(weight, f32x4.sqrt(f32x4.add(add, f32x4.mul(value, value))));
    }
    v128.store(to + i, weight);
    total = f32x4.add(total, weight);
  }
  return total;
}

/** Codes of four parts, as floats in lanes and moved up by `shift`, to bytes. */
function storeCodes(from: usize, n: usize, shift: f32, to: usize): void {
  for (let i: usize = 0; i < n; i++) {
    const codes = i32x4.trunc_sat_f32x4_s(f32x4.add(v128.load(from + (i << 4)), f32x4.splat(shift)));
    v128.store_lane<u8>(to + i, codes, 0);
    v128.store_lane<u8>(to + n + i, codes, 4);
    v128.store_lane<u8>(to + 2 * n + i, codes, 8);
    v128.store_lane<u8>(to + 3 * n + i, codes, 12);
  }
}

/** The value of the largest size in each lane, the first of equals. */
function signedLargest(x: usize, length: usize): v128 {
  let largest = zero;
  for (let i: usize = 0; i < length; i += 16) {
    const value = v128.load(x + i);
    largest = v128.bitselect(value, largest, f32x4.gt(f32x4.abs(value), f32x4.abs(largest)));
  }
  return largest;
}

/** Scale and minimum for codes 0 to `top`; see src/encodings/blocks/qkx.ts. */
export function blockSpans(first: i32, last: i32, scratch: usize, x: usize, n: usize, rule: i32, importance: usize, columns: i32, spreads: usize, scales: usize, minima: usize, totals: usize, codes: usize, top: f32, start: f32, step: f32, steps: i32, absolute: i32): void {
  const length = n << 4;
  const values = scratch, weights = scratch + length, tried = scratch + 2 * length;
  for (let item = first; item < last; item++) {
    const part = item << 2;
    const at = <usize>part << 2;
    abreast(x + <usize>part * n * 4, n, values);
    const sumW = weigh(part, values, n, rule, importance, columns, spreads, weights);
    let low = v128.load(values), high = low, sumX = zero;
    for (let i: usize = 0; i < length; i += 16) {
      const value = v128.load(values + i);
      low = f32x4.pmin(low, value);
      high = f32x4.pmax(high, value);
      sumX = f32x4.add(sumX, f32x4.mul(v128.load(weights + i), value));
    }
    low = f32x4.pmin(low, zero);
    const spread = f32x4.gt(high, low);
    const lowest = low;
    let bestUnit = f32x4.div(f32x4.splat(top), f32x4.sub(high, low)), bestFrom = low;
    choose(values, length, bestUnit, low, top, tried);
    let scale = f32x4.div(f32x4.splat(1), bestUnit);
    let least = loss(values, weights, tried, length, scale, low, absolute);
    for (let s = 0; s <= steps; s++) {
      const unit = f32x4.div(f32x4.splat(start + step * <f32>s + top), f32x4.sub(high, low));
      let sumL = zero, sumLL = zero, sumXL = zero;
      const most = i32x4.splat(<i32>top);
      for (let i: usize = 0; i < length; i += 16) {
        const value = v128.load(values + i);
        const code = nearestWithin(f32x4.mul(unit, f32x4.sub(value, low)), zero, most);
        v128.store(tried + i, code);
        const weighted = f32x4.mul(v128.load(weights + i), code);
        sumL = f32x4.add(sumL, weighted);
        sumLL = f32x4.add(sumLL, f32x4.mul(weighted, code));
        sumXL = f32x4.add(sumXL, f32x4.mul(weighted, value));
      }
      const determinant = f32x4.sub(f32x4.mul(sumW, sumLL), f32x4.mul(sumL, sumL));
      let newLow = f32x4.div(f32x4.sub(f32x4.mul(sumLL, sumX), f32x4.mul(sumL, sumXL)), determinant);
      let newScale = f32x4.div(f32x4.sub(f32x4.mul(sumW, sumXL), f32x4.mul(sumX, sumL)), determinant);
      const above = f32x4.gt(newLow, zero);
      newLow = v128.andnot(newLow, above);
      newScale = v128.bitselect(f32x4.div(sumXL, sumLL), newScale, above);
      const error = loss(values, weights, tried, length, newScale, newLow, absolute);
      const better = v128.and(f32x4.gt(determinant, zero), f32x4.lt(error, least));
      bestUnit = v128.bitselect(unit, bestUnit, better);
      bestFrom = v128.bitselect(low, bestFrom, better);
      least = v128.bitselect(error, least, better);
      scale = v128.bitselect(newScale, scale, better);
      low = v128.bitselect(newLow, low, better);
    }
    choose(values, length, bestUnit, bestFrom, top, tried);
    for (let i: usize = 0; i < length; i += 16) v128.store(tried + i, v128.and(v128.load(tried + i), spread));
    storeCodes(tried, n, 0, codes + <usize>part * n);
    v128.store(scales + at, v128.and(scale, spread));
    v128.store(minima + at, f32x4.neg(v128.bitselect(low, lowest, spread)));
    v128.store(totals + at, sumW);
  }
}

function choose(values: usize, length: usize, unit: v128, low: v128, top: f32, to: usize): void {
  const most = i32x4.splat(<i32>top);
  for (let i: usize = 0; i < length; i += 16) {
    v128.store(to + i, nearestWithin(f32x4.mul(unit, f32x4.sub(v128.load(values + i), low)), zero, most));
  }
}

// @ts-ignore: decorator
@inline
function loss(values: usize, weights: usize, tried: usize, length: usize, scale: v128, low: v128, absolute: i32): v128 {
  let sum = zero;
  if (absolute) {
    for (let i: usize = 0; i < length; i += 16) {
      const error = f32x4.sub(f32x4.add(f32x4.mul(scale, v128.load(tried + i)), low), v128.load(values + i));
      sum = f32x4.add(sum, f32x4.mul(v128.load(weights + i), f32x4.abs(error)));
    }
  } else {
    for (let i: usize = 0; i < length; i += 16) {
      const error = f32x4.sub(f32x4.add(f32x4.mul(scale, v128.load(tried + i)), low), v128.load(values + i));
      sum = f32x4.add(sum, f32x4.mul(v128.load(weights + i), f32x4.mul(error, error)));
    }
  }
  return sum;
}

/** Scale for codes that stand for -half to half - 1; see src/encodings/blocks/qx.ts. */
export function blockScales(first: i32, last: i32, scratch: usize, x: usize, n: usize, rule: i32, importance: usize, columns: i32, spreads: usize, scales: usize, minima: usize, totals: usize, codes: usize, half: f32): void {
  const length = n << 4;
  const values = scratch, weights = scratch + length, products = scratch + 2 * length;
  const bottom = i32x4.splat(-<i32>half), top = i32x4.splat(<i32>half - 1);
  for (let item = first; item < last; item++) {
    const part = item << 2;
    const at = <usize>part << 2;
    abreast(x + <usize>part * n * 4, n, values);
    v128.store(totals + at, weigh(part, values, n, rule, importance, columns, spreads, weights));
    for (let i: usize = 0; i < length; i += 16) {
      v128.store(products + i, f32x4.mul(v128.load(weights + i), v128.load(values + i)));
    }
    const largest = signedLargest(values, length);
    const some = f32x4.ge(f32x4.abs(largest), f32x4.splat(smallest));
    let best = zero, scale = zero, gain = zero;
    for (let s = -10; s <= 9; s++) {
      // The first is the largest value's own span, which stands even where it gains nothing.
      const own = s == -10;
      if (s == 0) continue;
      const span = own ? half : half + <f32>0.1 * <f32>s;
      const unit = f32x4.div(f32x4.splat(-span), largest);
      let sumXL = zero, sumLL = zero;
      for (let i: usize = 0; i < length; i += 16) {
        const level = nearestWithin(f32x4.mul(unit, v128.load(values + i)), bottom, top);
        sumXL = f32x4.add(sumXL, f32x4.mul(v128.load(products + i), level));
        sumLL = f32x4.add(sumLL, f32x4.mul(f32x4.mul(v128.load(weights + i), level), level));
      }
      const positive = f32x4.gt(sumLL, zero);
      const newScale = v128.and(f32x4.div(sumXL, sumLL), positive);
      let better = v128.and(positive, f32x4.gt(f32x4.mul(sumXL, sumXL), f32x4.mul(gain, sumLL)));
      if (own) better = i32x4.splat(-1);
      best = v128.bitselect(unit, best, better);
      scale = v128.bitselect(newScale, scale, better);
      gain = v128.bitselect(f32x4.mul(newScale, sumXL), gain, better);
    }
    for (let i: usize = 0; i < length; i += 16) {
      const level = nearestWithin(f32x4.mul(best, v128.load(values + i)), bottom, top);
      v128.store(products + i, v128.and(f32x4.add(level, f32x4.splat(half)), some));
    }
    storeCodes(products, n, 0, codes + <usize>part * n);
    v128.store(scales + at, v128.and(scale, some));
  }
}

/** The same, code by code, with x^2 as error weight; see src/encodings/blocks/q3.ts. Weights and totals are not used. */
export function blockDescents(first: i32, last: i32, scratch: usize, x: usize, n: usize, rule: i32, importance: usize, columns: i32, spreads: usize, scales: usize, minima: usize, totals: usize, codes: usize, half: f32): void {
  const length = n << 4;
  const values = scratch, levels = scratch + length;
  const bottom = i32x4.splat(-<i32>half), top = i32x4.splat(<i32>half - 1);
  for (let item = first; item < last; item++) {
    const part = item << 2;
    abreast(x + <usize>part * n * 4, n, values);
    const largest = signedLargest(values, length);
    const some = f32x4.ge(f32x4.abs(largest), f32x4.splat(smallest));
    const unit = f32x4.div(f32x4.splat(-half), largest);
    let sumXL = zero, sumLL = zero;
    for (let i: usize = 0; i < length; i += 16) {
      const value = v128.load(values + i);
      const level = nearestWithin(f32x4.mul(unit, value), bottom, top);
      v128.store(levels + i, level);
      const square = f32x4.mul(value, value);
      sumXL = f32x4.add(sumXL, f32x4.mul(f32x4.mul(square, value), level));
      sumLL = f32x4.add(sumLL, f32x4.mul(f32x4.mul(square, level), level));
    }
    for (let round = 0; round < 5; round++) {
      let changed = zero;
      for (let i: usize = 0; i < length; i += 16) {
        const value = v128.load(values + i);
        const level = v128.load(levels + i);
        const square = f32x4.mul(value, value);
        const cube = f32x4.mul(square, value);
        let restXL = f32x4.sub(sumXL, f32x4.mul(cube, level));
        let restLL = f32x4.sub(sumLL, f32x4.mul(f32x4.mul(square, level), level));
        const next = nearestWithin(f32x4.div(f32x4.mul(value, restLL), restXL), bottom, top);
        let better = v128.and(v128.and(f32x4.gt(restXL, zero), f32x4.ne(next, level)), some);
        restXL = f32x4.add(restXL, f32x4.mul(cube, next));
        restLL = f32x4.add(restLL, f32x4.mul(f32x4.mul(square, next), next));
        const gain = f32x4.gt(f32x4.mul(f32x4.mul(restXL, restXL), sumLL), f32x4.mul(f32x4.mul(sumXL, sumXL), restLL));
        better = v128.and(better, v128.and(f32x4.gt(restLL, zero), gain));
        v128.store(levels + i, v128.bitselect(next, level, better));
        sumXL = v128.bitselect(restXL, sumXL, better);
        sumLL = v128.bitselect(restLL, sumLL, better);
        changed = v128.or(changed, better);
      }
      if (!v128.any_true(changed)) break;
    }
    for (let i: usize = 0; i < length; i += 16) {
      v128.store(levels + i, v128.and(f32x4.add(v128.load(levels + i), f32x4.splat(half)), some));
    }
    storeCodes(levels, n, 0, codes + <usize>part * n);
    const scale = v128.and(f32x4.div(sumXL, sumLL), f32x4.gt(sumLL, zero));
    v128.store(scales + (<usize>part << 2), v128.and(scale, some));
  }
}

/** Scale for the levels of IQ4_NL; see src/encodings/blocks/levels.ts. Codes are not written. */
export function blockLevels(first: i32, last: i32, scratch: usize, x: usize, n: usize, rule: i32, importance: usize, columns: i32, spreads: usize, scales: usize, minima: usize, totals: usize, codes: usize): void {
  const length = n << 4;
  const values = scratch, weights = scratch + length;
  for (let item = first; item < last; item++) {
    const part = item << 2;
    abreast(x + <usize>part * n * 4, n, values);
    weigh(part, values, n, rule, importance, columns, spreads, weights);
    const largest = signedLargest(values, length);
    const some = f32x4.ge(f32x4.abs(largest), f32x4.splat(smallest));
    let scale = zero, gain = zero;
    for (let s = -8; s <= 7; s++) {
      const own = s == -8;
      const unit = own
        ? f32x4.div(f32x4.splat(1), f32x4.div(f32x4.neg(largest), f32x4.splat(-127)))
        : f32x4.div(f32x4.splat(<f32>(s - 127)), largest);
      let sumXQ = zero, sumQQ = zero;
      for (let i: usize = 0; i < length; i += 16) {
        const value = v128.load(values + i);
        const q = level(f32x4.mul(unit, value));
        const weighted = f32x4.mul(v128.load(weights + i), q);
        sumXQ = f32x4.add(sumXQ, f32x4.mul(weighted, value));
        sumQQ = f32x4.add(sumQQ, f32x4.mul(weighted, q));
      }
      const positive = f32x4.gt(sumQQ, zero);
      const newScale = v128.and(f32x4.div(sumXQ, sumQQ), positive);
      let better = v128.and(positive, f32x4.gt(f32x4.mul(sumXQ, sumXQ), f32x4.mul(gain, sumQQ)));
      if (own) better = i32x4.splat(-1);
      scale = v128.bitselect(newScale, scale, better);
      gain = v128.bitselect(f32x4.mul(newScale, sumXQ), gain, better);
    }
    v128.store(scales + (<usize>part << 2), v128.and(scale, some));
  }
}

/** The level nearest to a value: each midpoint that its double reaches adds the way to the next level. */
// @ts-ignore: decorator
@inline
function level(value: v128): v128 {
  const twice = f32x4.add(value, value);
  let sum = f32x4.splat(-127);
  sum = f32x4.add(sum, reached(twice, -231, 23));
  sum = f32x4.add(sum, reached(twice, -187, 21));
  sum = f32x4.add(sum, reached(twice, -148, 18));
  sum = f32x4.add(sum, reached(twice, -114, 16));
  sum = f32x4.add(sum, reached(twice, -84, 14));
  sum = f32x4.add(sum, reached(twice, -57, 13));
  sum = f32x4.add(sum, reached(twice, -32, 12));
  sum = f32x4.add(sum, reached(twice, -9, 11));
  sum = f32x4.add(sum, reached(twice, 14, 12));
  sum = f32x4.add(sum, reached(twice, 38, 12));
  sum = f32x4.add(sum, reached(twice, 63, 13));
  sum = f32x4.add(sum, reached(twice, 91, 15));
  sum = f32x4.add(sum, reached(twice, 122, 16));
  sum = f32x4.add(sum, reached(twice, 158, 20));
  return f32x4.add(sum, reached(twice, 202, 24));
}

// @ts-ignore: decorator
@inline
function reached(twice: v128, middle: f32, way: f32): v128 {
  return v128.and(f32x4.ge(twice, f32x4.splat(middle)), f32x4.splat(way));
}
