/** The kernels of kernels/levels.ts again, one number at a time. Same layouts; a table's arrays are of one length. */

const { fround } = Math;

interface Table {
  readonly levels: Float32Array;
  readonly thresholds: Float32Array;
  readonly codes: Uint8Array;
}

interface Sizes {
  readonly columns: number;
  readonly stride: number;
}

const nearest = (value: number, { thresholds }: Table): number =>
  thresholds.reduce((index, threshold, i) => (value >= threshold ? i + 1 : index), 0);

/** Codes of w [columns, stride] with scales [groups, stride] of `length` columns each. */
export function roundLevels(
  w: Float32Array,
  { columns, stride, length }: Sizes & { readonly length: number },
  scales: Float32Array,
  table: Table,
): Uint8Array {
  return Uint8Array.from({ length: columns * stride }, (_, at) => {
    const group = Math.floor(Math.floor(at / stride) / length);
    return table.codes[nearest(fround(w[at] / scales[group * stride + (at % stride)]), table)];
  });
}

/** Rounds a block column by column, each error taken out of the columns after it; `left` is origin - q. */
export function compensateLevels(
  w: Float32Array,
  origin: Float32Array,
  { columns, stride, pitch }: Sizes & { readonly pitch: number },
  inverse: Float32Array,
  groups: Int32Array,
  scales: Float32Array,
  table: Table,
): { readonly codes: Uint8Array; readonly left: Float32Array } {
  const codes = new Uint8Array(columns * stride);
  const left = new Float32Array(columns * stride);
  const errors = new Float32Array(columns);
  for (let row = 0; row < stride; row++) {
    for (let i = 0; i < columns; i++) {
      let value = w[i * stride + row];
      for (let k = 0; k < i; k++) value = fround(value - fround(errors[k] * inverse[i * pitch + k]));
      const scale = scales[groups[i] * stride + row];
      const index = nearest(fround(value / scale), table);
      const q = fround(table.levels[index] * scale);
      codes[i * stride + row] = table.codes[index];
      errors[i] = fround(fround(value - q) / inverse[i * pitch + i]);
      left[i * stride + row] = origin[i * stride + row] - q;
    }
  }
  return { codes, left };
}
