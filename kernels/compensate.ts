// GPTQ inside a block of columns: each column is rounded, and what rounding lost is taken out of the columns after it,
// w_i -= sum over k < i of u_ki (w_k - q_k) / u_kk. Left-looking, two columns at a time, in tiles of 16 rows.
//
// w       [columns, stride] weights with the errors of all earlier blocks taken out
// origin  [columns, stride] weights as they were; becomes origin - q
// inverse [columns, pitch] U^T, row i holds u_ki for k <= i
// groups  int32 [columns]: row of `scales` and `zeros` [.., stride] of each column
// codes   uint8 [columns, stride]
// An item is a tile of 16 rows; scratch holds the tile's errors, 64 bytes a column.

import { bytesOf, codeOf } from './round';

export function compensate(first: i32, last: i32, scratch: usize, w: usize, origin: usize, columns: i32, stride: i32, inverse: usize, pitch: i32, groups: usize, scales: usize, zeros: usize, codes: usize, top: f32): void {
  const step = <usize>stride << 2;
  const rowStep = <usize>pitch << 2;
  const most = f32x4.splat(top);
  for (let tile = first; tile < last; tile++) {
    const lane = <usize>tile << 6;
    let at = lane;
    let u = inverse;
    let column = 0;
    for (; column + 2 <= columns; column += 2) {
      let a0 = v128.load(w + at), a1 = v128.load(w + at, 16), a2 = v128.load(w + at, 32), a3 = v128.load(w + at, 48);
      const next = w + at + step;
      let b0 = v128.load(next), b1 = v128.load(next, 16), b2 = v128.load(next, 32), b3 = v128.load(next, 48);
      let e = scratch;
      for (let k: usize = 0; k < <usize>column << 2; k += 4) {
        const e0 = v128.load(e), e1 = v128.load(e, 16), e2 = v128.load(e, 32), e3 = v128.load(e, 48);
        const ua = v128.load32_splat(u + k);
        a0 = f32x4.sub(a0, f32x4.mul(e0, ua));
        a1 = f32x4.sub(a1, f32x4.mul(e1, ua));
        a2 = f32x4.sub(a2, f32x4.mul(e2, ua));
        a3 = f32x4.sub(a3, f32x4.mul(e3, ua));
        const ub = v128.load32_splat(u + rowStep + k);
        b0 = f32x4.sub(b0, f32x4.mul(e0, ub));
        b1 = f32x4.sub(b1, f32x4.mul(e1, ub));
        b2 = f32x4.sub(b2, f32x4.mul(e2, ub));
        b3 = f32x4.sub(b3, f32x4.mul(e3, ub));
        e += 64;
      }
      const diagonal = <usize>column << 2;
      settle(a0, a1, a2, a3, u + diagonal, scales, zeros, groups + diagonal, step, lane, e, origin + at, codes + (at >> 2), most);
      const ub = v128.load32_splat(u + rowStep + diagonal);
      b0 = f32x4.sub(b0, f32x4.mul(v128.load(e), ub));
      b1 = f32x4.sub(b1, f32x4.mul(v128.load(e, 16), ub));
      b2 = f32x4.sub(b2, f32x4.mul(v128.load(e, 32), ub));
      b3 = f32x4.sub(b3, f32x4.mul(v128.load(e, 48), ub));
      at += step;
      settle(b0, b1, b2, b3, u + rowStep + diagonal + 4, scales, zeros, groups + diagonal + 4, step, lane, e + 64, origin + at, codes + (at >> 2), most);
      at += step;
      u += 2 * rowStep;
    }
    if (column < columns) {
      let a0 = v128.load(w + at), a1 = v128.load(w + at, 16), a2 = v128.load(w + at, 32), a3 = v128.load(w + at, 48);
      let e = scratch;
      for (let k: usize = 0; k < <usize>column << 2; k += 4) {
        const ua = v128.load32_splat(u + k);
        a0 = f32x4.sub(a0, f32x4.mul(v128.load(e), ua));
        a1 = f32x4.sub(a1, f32x4.mul(v128.load(e, 16), ua));
        a2 = f32x4.sub(a2, f32x4.mul(v128.load(e, 32), ua));
        a3 = f32x4.sub(a3, f32x4.mul(v128.load(e, 48), ua));
        e += 64;
      }
      const diagonal = <usize>column << 2;
      settle(a0, a1, a2, a3, u + diagonal, scales, zeros, groups + diagonal, step, lane, e, origin + at, codes + (at >> 2), most);
    }
  }
}

/** Rounds one column of a tile; stores its codes, its errors over u_ii, and what it now differs from the origin by. */
// @ts-ignore: decorator
@inline
function settle(w0: v128, w1: v128, w2: v128, w3: v128, pivot: usize, scales: usize, zeros: usize, group: usize, step: usize, lane: usize, e: usize, origin: usize, codes: usize, most: v128): void {
  const row = <usize>i32.load(group) * step + lane;
  const s = scales + row;
  const z = zeros + row;
  const d = v128.load32_splat(pivot);
  const s0 = v128.load(s), s1 = v128.load(s, 16), s2 = v128.load(s, 32), s3 = v128.load(s, 48);
  const z0 = v128.load(z), z1 = v128.load(z, 16), z2 = v128.load(z, 32), z3 = v128.load(z, 48);
  const c0 = codeOf(w0, s0, z0, most), c1 = codeOf(w1, s1, z1, most), c2 = codeOf(w2, s2, z2, most), c3 = codeOf(w3, s3, z3, most);
  v128.store(codes, bytesOf(c0, c1, c2, c3));
  const q0 = f32x4.mul(s0, f32x4.sub(c0, z0));
  const q1 = f32x4.mul(s1, f32x4.sub(c1, z1));
  const q2 = f32x4.mul(s2, f32x4.sub(c2, z2));
  const q3 = f32x4.mul(s3, f32x4.sub(c3, z3));
  v128.store(e, f32x4.div(f32x4.sub(w0, q0), d));
  v128.store(e, f32x4.div(f32x4.sub(w1, q1), d), 16);
  v128.store(e, f32x4.div(f32x4.sub(w2, q2), d), 32);
  v128.store(e, f32x4.div(f32x4.sub(w3, q3), d), 48);
  v128.store(origin, f32x4.sub(v128.load(origin), q0));
  v128.store(origin, f32x4.sub(v128.load(origin, 16), q1), 16);
  v128.store(origin, f32x4.sub(v128.load(origin, 32), q2), 32);
  v128.store(origin, f32x4.sub(v128.load(origin, 48), q3), 48);
}
