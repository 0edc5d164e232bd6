// Row-major [rows, columns] to tiles, [columns, stride]; rows that fill up the last tile are 0.
// An item is a tile of 16 rows.

export function transpose(first: i32, last: i32, scratch: usize, source: usize, rows: i32, columns: i32, target: usize, stride: i32): void {
  const pitch = <usize>columns << 2;
  const step = <usize>stride << 2;
  for (let tile = first; tile < last; tile++) {
    for (let quarter = 0; quarter < 4; quarter++) {
      const row = (tile << 4) + (quarter << 2);
      const from = source + <usize>row * pitch;
      const to = target + (<usize>row << 2);
      if (row + 4 <= rows) four(from, pitch, columns, to, step);
      else few(from, pitch, columns, to, step, rows - row);
    }
  }
}

function four(from: usize, pitch: usize, columns: i32, to: usize, step: usize): void {
  let column = 0;
  for (; column + 4 <= columns; column += 4) {
    const a = v128.load(from);
    const b = v128.load(from + pitch);
    const c = v128.load(from + 2 * pitch);
    const d = v128.load(from + 3 * pitch);
    const ab = v128.shuffle<f32>(a, b, 0, 4, 1, 5);
    const AB = v128.shuffle<f32>(a, b, 2, 6, 3, 7);
    const cd = v128.shuffle<f32>(c, d, 0, 4, 1, 5);
    const CD = v128.shuffle<f32>(c, d, 2, 6, 3, 7);
    v128.store(to, v128.shuffle<f32>(ab, cd, 0, 1, 4, 5));
    v128.store(to + step, v128.shuffle<f32>(ab, cd, 2, 3, 6, 7));
    v128.store(to + 2 * step, v128.shuffle<f32>(AB, CD, 0, 1, 4, 5));
    v128.store(to + 3 * step, v128.shuffle<f32>(AB, CD, 2, 3, 6, 7));
    from += 16;
    to += 4 * step;
  }
  for (; column < columns; column++) {
    for (let k: usize = 0; k < 4; k++) f32.store(to + (k << 2), f32.load(from + k * pitch));
    from += 4;
    to += step;
  }
}

/** `count` rows, at most 3 and possibly none; the rest are 0. */
function few(from: usize, pitch: usize, columns: i32, to: usize, step: usize, count: i32): void {
  for (let column = 0; column < columns; column++) {
    for (let k = 0; k < 4; k++) {
      f32.store(to + (<usize>k << 2), k < count ? f32.load(from + <usize>k * pitch) : 0);
    }
    from += 4;
    to += step;
  }
}
