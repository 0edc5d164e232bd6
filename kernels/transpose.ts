// Row-major [rows, columns] to tiles, [columns, stride], float32; rows that fill up the last tile are 0. The form of
// the source: 0 for float32, 1 for float16, 2 for bfloat16. An item is a tile of 16 rows.

export function transpose(first: i32, last: i32, scratch: usize, source: usize, rows: i32, columns: i32, target: usize, stride: i32, form: i32): void {
  const pitch = <usize>columns << sizeOf(form);
  for (let tile = first; tile < last; tile++) {
    const row = tile << 4;
    transposeTile(source + <usize>row * pitch, pitch, columns, target + (<usize>row << 2), <usize>stride << 2, rows - row, form);
  }
}

/** `columns` of 16 rows, of which `count` are there. */
export function transposeTile(from: usize, pitch: usize, columns: i32, to: usize, step: usize, count: i32, form: i32): void {
  for (let row = 0; row < 16; row += 4) {
    const start = from + <usize>row * pitch;
    const end = to + (<usize>row << 2);
    if (row + 4 <= count) four(start, pitch, columns, end, step, form);
    else few(start, pitch, columns, end, step, count - row, form);
  }
}

/** Of bytes: its power of two. */
// @ts-ignore: decorator
@inline
export function sizeOf(form: i32): usize {
  return form ? 1 : 2;
}

/** The next four values of a row. */
// @ts-ignore: decorator
@inline
function fourAt(from: usize, form: i32): v128 {
  if (form == 0) return v128.load(from);
  return widened(i32x4.extend_low_i16x8_u(v128.load64_zero(from)), form);
}

// @ts-ignore: decorator
@inline
function oneAt(from: usize, form: i32): f32 {
  if (form == 0) return f32.load(from);
  return f32x4.extract_lane(widened(i32x4.splat(i32.load16_u(from)), form), 0);
}

// @ts-ignore: decorator
@inline
function widened(codes: v128, form: i32): v128 {
  return form == 1 ? halves(codes) : i32x4.shl(codes, 16);
}

/** What float16 codes stand for: a factor puts exponents right, of subnormal numbers too; infinities and NaN stay. */
// @ts-ignore: decorator
@inline
function halves(codes: v128): v128 {
  const magnitude = i32x4.shl(v128.and(codes, i32x4.splat(0x7fff)), 13);
  const sign = i32x4.shl(v128.and(codes, i32x4.splat(0x8000)), 16);
  const beyond = v128.and(i32x4.ge_s(magnitude, i32x4.splat(0x7c00 << 13)), i32x4.splat(0x7f800000));
  const value = f32x4.mul(magnitude, f32x4.splat(5.192296858534828e33));
  return v128.or(v128.or(value, beyond), sign);
}

function four(from: usize, pitch: usize, columns: i32, to: usize, step: usize, form: i32): void {
  const size = sizeOf(form);
  let column = 0;
  for (; column + 4 <= columns; column += 4) {
    const a = fourAt(from, form);
    const b = fourAt(from + pitch, form);
    const c = fourAt(from + 2 * pitch, form);
    const d = fourAt(from + 3 * pitch, form);
    const ab = v128.shuffle<f32>(a, b, 0, 4, 1, 5);
    const AB = v128.shuffle<f32>(a, b, 2, 6, 3, 7);
    const cd = v128.shuffle<f32>(c, d, 0, 4, 1, 5);
    const CD = v128.shuffle<f32>(c, d, 2, 6, 3, 7);
    v128.store(to, v128.shuffle<f32>(ab, cd, 0, 1, 4, 5));
    v128.store(to + step, v128.shuffle<f32>(ab, cd, 2, 3, 6, 7));
    v128.store(to + 2 * step, v128.shuffle<f32>(AB, CD, 0, 1, 4, 5));
    v128.store(to + 3 * step, v128.shuffle<f32>(AB, CD, 2, 3, 6, 7));
    from += <usize>4 << size;
    to += 4 * step;
  }
  for (; column < columns; column++) {
    for (let k: usize = 0; k < 4; k++) f32.store(to + (k << 2), oneAt(from + k * pitch, form));
    from += <usize>1 << size;
    to += step;
  }
}

/** `count` rows, at most 3 and possibly none; the rest are 0. */
function few(from: usize, pitch: usize, columns: i32, to: usize, step: usize, count: i32, form: i32): void {
  for (let column = 0; column < columns; column++) {
    for (let k = 0; k < 4; k++) {
      f32.store(to + (<usize>k << 2), k < count ? oneAt(from + <usize>k * pitch, form) : 0);
    }
    from += <usize>1 << sizeOf(form);
    to += step;
  }
}
