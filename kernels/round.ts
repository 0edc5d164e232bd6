// Round-to-nearest of rows as they are stored: a tile is transposed, fitted, rounded and packed while it is in the cache.
// What values are, and where parameters and codes go: transpose.ts, fit.ts and pack.ts. An item is a tile of 16 rows;
// scratch holds a tile, 64 bytes a column, its codes, 16 bytes a column, and 16 bytes.

import { fitTile } from './fit';
import { packTile } from './pack';
import { sizeOf, transposeTile } from './transpose';

/** The code of w as a float: nearest(w / scale) + zero, within 0 and top; halves go to the even neighbour, NaN anywhere. */
// @ts-ignore: decorator
@inline
export function codeOf(w: v128, scale: v128, zero: v128, top: v128): v128 {
  const code = f32x4.add(f32x4.nearest(f32x4.div(w, scale)), zero);
  return f32x4.pmin(f32x4.pmax(code, f32x4.splat(0)), top);
}

/** Sixteen codes as bytes. */
// @ts-ignore: decorator
@inline
export function bytesOf(a: v128, b: v128, c: v128, d: v128): v128 {
  const low = i16x8.narrow_i32x4_s(i32x4.trunc_sat_f32x4_s(a), i32x4.trunc_sat_f32x4_s(b));
  const high = i16x8.narrow_i32x4_s(i32x4.trunc_sat_f32x4_s(c), i32x4.trunc_sat_f32x4_s(d));
  return i8x16.narrow_i16x8_u(low, high);
}

export function round(first: i32, last: i32, scratch: usize, source: usize, rows: i32, columns: i32, form: i32, size: i32, scales: usize, zeros: usize, stride: i32, top: f32, symmetric: i32, search: i32, scaleForm: i32, target: usize, rowBytes: i32, width: i32, shift: i32, fill: i32): void {
  const pitch = <usize>columns << sizeOf(form);
  const codes = scratch + (<usize>columns << 6);
  const bytes = codes + (<usize>columns << 4);
  for (let tile = first; tile < last; tile++) {
    const row = tile << 4;
    const count = min(16, rows - row);
    transposeTile(source + <usize>row * pitch, pitch, columns, scratch, 64, count, form);
    let to = <usize>row << 2;
    for (let start = 0; start < columns; start += size) {
      const length = min(size, columns - start);
      const from = scratch + (<usize>start << 6);
      fitTile(from, 64, length, scales + to, zeros + to, top, symmetric, search, scaleForm);
      roundTile(from, length, scales + to, zeros + to, codes + (<usize>start << 4), top);
      to += <usize>stride << 2;
    }
    packTile(bytes, codes, 0, columns, 16, count, target + <usize>row * <usize>rowBytes, rowBytes, width, shift, fill);
  }
}

/** Codes [count, 16] of values [count, 16]. */
function roundTile(from: usize, count: i32, scales: usize, zeros: usize, to: usize, top: f32): void {
  const most = f32x4.splat(top);
  const s0 = v128.load(scales), s1 = v128.load(scales, 16), s2 = v128.load(scales, 32), s3 = v128.load(scales, 48);
  const z0 = v128.load(zeros), z1 = v128.load(zeros, 16), z2 = v128.load(zeros, 32), z3 = v128.load(zeros, 48);
  for (let i = 0; i < count; i++, from += 64, to += 16) {
    v128.store(to, bytesOf(
      codeOf(v128.load(from), s0, z0, most),
      codeOf(v128.load(from, 16), s1, z1, most),
      codeOf(v128.load(from, 32), s2, z2, most),
      codeOf(v128.load(from, 48), s3, z3, most),
    ));
  }
}
