// Codes of number formats whose values are a table of up to 256 levels. The table: `size` levels (floats, rising, a power
// of two of them), `size` thresholds (a value from the i-th on is nearer to level i + 1 than to level i; NaN at the end),
// `size` codes (bytes). Layouts as in round.ts, fit.ts and compensate.ts, with a scale and no zero point.

/** The index of the level nearest to a value; 0 for NaN. */
// @ts-ignore: decorator
@inline
function nearest(value: f32, table: usize, size: i32): usize {
  const thresholds = table + (<usize>size << 2);
  let at: usize = 0;
  for (let step = <usize>size >> 1; step > 0; step >>= 1) {
    at = select(at + step, at, value >= load<f32>(thresholds + ((at + step - 1) << 2)));
  }
  return at;
}

// @ts-ignore: decorator
@inline
function codeAt(table: usize, size: i32, index: usize): u8 {
  return load<u8>(table + (<usize>size << 3) + index);
}

/**
 * Scales of groups of `length` columns of w [columns, stride]: the largest size or the mean of a group over `divisor`,
 * or that times the one of `tries` shares that has the least squared error. Forms: 0 float32, 1 float16, 2 powers of
 * two, 3 E4M3 over `factor`. An item is a tile of 16 rows of one group, group-major; scratch holds it, 64 bytes a column.
 */
export function fitLevels(first: i32, last: i32, scratch: usize, w: usize, columns: i32, stride: i32, length: i32, scales: usize, table: usize, size: i32, shares: usize, tries: i32, mean: i32, divisor: f32, form: i32, factor: f32): void {
  const tiles = stride >> 4;
  for (let item = first; item < last; item++) {
    const start = item / tiles * length;
    const tile = item % tiles;
    const count = min(length, columns - start);
    let from = w + ((<usize>start * stride + (tile << 4)) << 2);
    for (let i = 0; i < count; i++, from += <usize>stride << 2) {
      for (let row = 0; row < 16; row++) {
        store<f32>(scratch + ((<usize>row * count + i) << 2), load<f32>(from + (<usize>row << 2)));
      }
    }
    const to = scales + ((<usize>(item / tiles) * stride + (tile << 4)) << 2);
    for (let row = 0; row < 16; row++) {
      const values = scratch + ((<usize>row * count) << 2);
      store<f32>(to + (<usize>row << 2), fitRow(values, count, table, size, shares, tries, mean, divisor, form, factor));
    }
  }
}

function fitRow(values: usize, count: i32, table: usize, size: i32, shares: usize, tries: i32, mean: i32, divisor: f32, form: i32, factor: f32): f32 {
  let plain: f32 = 0;
  if (mean) {
    let sum: f64 = 0;
    for (let i = 0; i < count; i++) sum += abs(<f64>load<f32>(values + (<usize>i << 2)));
    plain = <f32>(sum / <f64>count);
  } else {
    for (let i = 0; i < count; i++) plain = max(plain, abs(load<f32>(values + (<usize>i << 2))));
  }
  if (plain == 0) return storedScale(1, form, factor);
  plain = plain / divisor;
  let best = storedScale(plain, form, factor);
  if (tries == 1) return best;
  let least = loss(values, count, best, table, size, Infinity);
  for (let k = 1; k < tries; k++) {
    const scale = storedScale(plain * load<f32>(shares + (<usize>k << 2)), form, factor);
    const sum = loss(values, count, scale, table, size, least);
    if (sum < least) {
      least = sum;
      best = scale;
    }
  }
  return best;
}

/** The squared error of a scale, or something not below `least` where that much is certain before the end. */
function loss(values: usize, count: i32, scale: f32, table: usize, size: i32, least: f64): f64 {
  let sum: f64 = 0;
  for (let i = 0; i < count; i++) {
    if ((i & 7) == 7 && !(sum < least)) return sum;
    const value = load<f32>(values + (<usize>i << 2));
    const level = load<f32>(table + (nearest(value / scale, table, size) << 2));
    const error = <f64>(level * scale - value);
    sum += error * error;
  }
  return sum;
}

function storedScale(scale: f32, form: i32, factor: f32): f32 {
  if (form == 0) return scale;
  if (form == 1) return nearestHalf(scale);
  if (form == 2) {
    const power = reinterpret<f32>(reinterpret<i32>(scale) & 0x7f800000);
    return max(power, <f32>1.1754943508222875e-38);
  }
  return nearestE4m3(scale * factor) / factor;
}

/** What float16 holds of a positive number; one outside its normal range stays as it is. */
function nearestHalf(x: f32): f32 {
  const bits = reinterpret<i32>(x);
  const rounded = reinterpret<f32>((bits + 0xfff + ((bits >>> 13) & 1)) & ~0x1fff);
  return rounded >= <f32>0.00006103515625 && rounded <= <f32>65504 ? rounded : x;
}

/** The E4M3 number nearest to a positive one, the least one that is not 0 or more. */
function nearestE4m3(x: f32): f32 {
  if (x >= <f32>448) return 448;
  if (x < <f32>0.015625) return max(f32.nearest(x * <f32>512), <f32>1) / <f32>512;
  const bits = reinterpret<i32>(x);
  return reinterpret<f32>((bits + 0x7ffff + ((bits >>> 20) & 1)) & ~0xfffff);
}

/** Codes of w [columns, stride] to their nearest levels. An item is a tile of 16 rows. */
export function roundLevels(first: i32, last: i32, scratch: usize, w: usize, columns: i32, stride: i32, length: i32, scales: usize, table: usize, size: i32, codes: usize): void {
  const step = <usize>stride << 2;
  for (let tile = first; tile < last; tile++) {
    const lane = <usize>tile << 6;
    for (let column = 0; column < columns; column++) {
      const from = w + <usize>column * step + lane;
      const to = codes + ((<usize>column * step + lane) >> 2);
      const s = scales + <usize>(column / length) * step + lane;
      for (let row: usize = 0; row < 16; row++) {
        const index = nearest(load<f32>(from + (row << 2)) / load<f32>(s + (row << 2)), table, size);
        store<u8>(to + row, codeAt(table, size, index));
      }
    }
  }
}

/**
 * The weights of one column of a tile, less what the errors of the columns before it come to: w - sum over k < column of
 * u_k e_k. Gives where it put them, behind the errors.
 */
function settled(w: usize, u: usize, column: i32, errors: usize): usize {
  let a0 = v128.load(w), a1 = v128.load(w, 16), a2 = v128.load(w, 32), a3 = v128.load(w, 48);
  let e = errors;
  for (let k: usize = 0; k < <usize>column << 2; k += 4) {
    const factor = v128.load32_splat(u + k);
    a0 = f32x4.sub(a0, f32x4.mul(v128.load(e), factor));
    a1 = f32x4.sub(a1, f32x4.mul(v128.load(e, 16), factor));
    a2 = f32x4.sub(a2, f32x4.mul(v128.load(e, 32), factor));
    a3 = f32x4.sub(a3, f32x4.mul(v128.load(e, 48), factor));
    e += 64;
  }
  v128.store(e, a0);
  v128.store(e, a1, 16);
  v128.store(e, a2, 32);
  v128.store(e, a3, 48);
  return e;
}

/** GPTQ inside a block of columns, as compensate.ts has it, one column at a time, with the nearest level for a code. */
export function compensateLevels(first: i32, last: i32, scratch: usize, w: usize, origin: usize, columns: i32, stride: i32, inverse: usize, pitch: i32, groups: usize, scales: usize, table: usize, codes: usize, size: i32): void {
  const step = <usize>stride << 2;
  for (let tile = first; tile < last; tile++) {
    const lane = <usize>tile << 6;
    let at = lane;
    let u = inverse;
    for (let column = 0; column < columns; column++) {
      const e = settled(w + at, u, column, scratch);
      const pivot = load<f32>(u + (<usize>column << 2));
      const s = scales + <usize>load<i32>(groups + (<usize>column << 2)) * step + lane;
      for (let row: usize = 0; row < 64; row += 4) {
        const value = load<f32>(e + row);
        const scale = load<f32>(s + row);
        const index = nearest(value / scale, table, size);
        const q = load<f32>(table + (index << 2)) * scale;
        store<u8>(codes + ((at + row) >> 2), codeAt(table, size, index));
        store<f32>(e + row, (value - q) / pivot);
        store<f32>(origin + at + row, load<f32>(origin + at + row) - q);
      }
      at += step;
      u += <usize>pitch << 2;
    }
  }
}

/**
 * The same with the signs of a weight and of what the first leaves: q = a s + b t. Bit 0 of a code is 1 where s is 1, bit
 * 1 where t is. `second`: the scales b, or all zeros.
 */
export function compensateSigns(first: i32, last: i32, scratch: usize, w: usize, origin: usize, columns: i32, stride: i32, inverse: usize, pitch: i32, groups: usize, scales: usize, second: usize, codes: usize, _: i32): void {
  const step = <usize>stride << 2;
  for (let tile = first; tile < last; tile++) {
    const lane = <usize>tile << 6;
    let at = lane;
    let u = inverse;
    for (let column = 0; column < columns; column++) {
      const e = settled(w + at, u, column, scratch);
      const pivot = load<f32>(u + (<usize>column << 2));
      const group = <usize>load<i32>(groups + (<usize>column << 2)) * step + lane;
      for (let row: usize = 0; row < 64; row += 4) {
        const value = load<f32>(e + row);
        const a = load<f32>(scales + group + row);
        const b = load<f32>(second + group + row);
        const s = value >= 0;
        const large = s ? a : -a;
        const t = value - large >= 0;
        const q = large + (t ? b : -b);
        store<u8>(codes + ((at + row) >> 2), <u8>(<i32>s | (<i32>t << 1)));
        store<f32>(e + row, (value - q) / pivot);
        store<f32>(origin + at + row, load<f32>(origin + at + row) - q);
      }
      at += step;
      u += <usize>pitch << 2;
    }
  }
}
