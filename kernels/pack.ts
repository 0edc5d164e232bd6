// Codes [columns, stride] (bytes, one row of the matrix a lane) to rows of packed codes, [rows, rowBytes], low bits
// first; `shift` is added to every code, and `fill` stands in columns past the last. `order` (int32 [columns], or 0)
// gives the line of `codes` that holds each column. An item is a tile of 16 rows.

export function pack(first: i32, last: i32, scratch: usize, codes: usize, order: usize, columns: i32, stride: i32, rows: i32, target: usize, rowBytes: i32, width: i32, shift: i32, fill: i32): void {
  for (let tile = first; tile < last; tile++) {
    const row = tile << 4;
    packTile(scratch, codes + <usize>row, order, columns, stride, min(16, rows - row), target + <usize>row * <usize>rowBytes, rowBytes, width, shift, fill);
  }
}

/** Of `count` rows; scratch holds 16 bytes. */
export function packTile(scratch: usize, codes: usize, order: usize, columns: i32, stride: i32, count: i32, target: usize, rowBytes: i32, width: i32, shift: i32, fill: i32): void {
  const perByte = 8 / width;
  const lift = i8x16.splat(<i8>shift);
  const pad = i8x16.splat(<i8>fill);
  for (let byte = 0; byte < rowBytes; byte++) {
    let bits = i8x16.splat(0);
    for (let k = 0; k < perByte; k++) {
      const column = byte * perByte + k;
      let code = pad;
      if (column < columns) {
        const line = order ? i32.load(order + (<usize>column << 2)) : column;
        code = i8x16.add(v128.load(codes + <usize>line * <usize>stride), lift);
      }
      bits = v128.or(bits, i8x16.shl(code, k * width));
    }
    v128.store(scratch, bits);
    let to = target + byte;
    for (let i = 0; i < count; i++) {
      i32.store8(to, i32.load8_u(scratch + i));
      to += rowBytes;
    }
  }
}
