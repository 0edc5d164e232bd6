// Round-to-nearest: codes of w [columns, stride], with a scale and a zero point for every `size` columns.
// An item is a tile of 16 rows.

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

export function round(first: i32, last: i32, scratch: usize, w: usize, columns: i32, stride: i32, size: i32, scales: usize, zeros: usize, codes: usize, top: f32): void {
  const step = <usize>stride << 2;
  const most = f32x4.splat(top);
  for (let tile = first; tile < last; tile++) {
    const lane = <usize>tile << 6;
    let from = w + lane;
    let to = codes + (<usize>tile << 4);
    let s = scales + lane;
    let z = zeros + lane;
    for (let start = 0; start < columns; start += size) {
      const s0 = v128.load(s), s1 = v128.load(s, 16), s2 = v128.load(s, 32), s3 = v128.load(s, 48);
      const z0 = v128.load(z), z1 = v128.load(z, 16), z2 = v128.load(z, 32), z3 = v128.load(z, 48);
      const end = min(start + size, columns);
      for (let column = start; column < end; column++) {
        v128.store(to, bytesOf(
          codeOf(v128.load(from), s0, z0, most),
          codeOf(v128.load(from, 16), s1, z1, most),
          codeOf(v128.load(from, 32), s2, z2, most),
          codeOf(v128.load(from, 48), s3, z3, most),
        ));
        from += step;
        to += <usize>stride;
      }
      s += step;
      z += step;
    }
  }
}
