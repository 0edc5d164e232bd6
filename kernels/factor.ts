// A symmetric positive definite block S = R R^T with R upper triangular, and its inverse factor U = R^-1.
// Both are kept transposed, so that rows lie together: T = R^T (over S) and U^T, lower triangular with zeros above.
// S and U^T are [size, pitch] with pitch a multiple of 16. One item; not cut across threads.

/** Returns the first column (from the last) whose pivot is not positive, or -1. */
export function factor(s: usize, inverse: usize, size: i32, pitch: i32): i32 {
  const step = <usize>pitch << 2;
  for (let k = size - 1; k >= 0; k--) {
    const row = s + <usize>k * step;
    const below = row + step;
    // S_k - sum over m > k of T_mk T_m, up to column k and a few beyond it, which nobody reads.
    for (let at: usize = 0; at <= <usize>k << 2; at += 64) {
      remainder(row + at, below + (<usize>k << 2), step, below + at, size - 1 - k, step);
    }
    const pivot = f32.load(row + (<usize>k << 2));
    if (!(pivot > 0 && pivot < Infinity)) return k;
    const root = sqrt<f32>(pivot);
    for (let at: usize = 0; at < <usize>k << 2; at += 4) f32.store(row + at, f32.load(row + at) / root);
    f32.store(row + (<usize>k << 2), root);
  }
  for (let i = 0; i < size; i++) {
    const t = s + <usize>i * step;
    const row = inverse + <usize>i * step;
    memory.fill(row, 0, step);
    for (let at: usize = 0; at < <usize>i << 2; at += 64) {
      // Rows of U^T above the diagonal tile are 0 there.
      const from = at >> 2;
      remainder(row + at, t + at, 4, inverse + from * step + at, i - <i32>from, step);
    }
    const pivot = f32.load(t + (<usize>i << 2));
    for (let at: usize = 0; at < <usize>i << 2; at += 4) f32.store(row + at, f32.load(row + at) / pivot);
    f32.store(row + (<usize>i << 2), 1 / pivot);
  }
  return -1;
}

/** Sixteen floats: target -= sum of count factors times rows. */
// @ts-ignore: decorator
@inline
function remainder(target: usize, factors: usize, factorStep: usize, rows: usize, count: i32, step: usize): void {
  let a0 = v128.load(target), a1 = v128.load(target, 16), a2 = v128.load(target, 32), a3 = v128.load(target, 48);
  for (let m = 0; m < count; m++) {
    const t = v128.load32_splat(factors);
    a0 = f32x4.sub(a0, f32x4.mul(t, v128.load(rows)));
    a1 = f32x4.sub(a1, f32x4.mul(t, v128.load(rows, 16)));
    a2 = f32x4.sub(a2, f32x4.mul(t, v128.load(rows, 32)));
    a3 = f32x4.sub(a3, f32x4.mul(t, v128.load(rows, 48)));
    factors += factorStep;
    rows += step;
  }
  v128.store(target, a0);
  v128.store(target, a1, 16);
  v128.store(target, a2, 32);
  v128.store(target, a3, 48);
}
