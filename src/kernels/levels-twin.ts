/** The kernels of kernels/levels.ts again, one number at a time. Same layouts; a table's arrays are of one length. */

const { fround } = Math;

interface Table {
  readonly levels: Float32Array;
  readonly thresholds: Float32Array;
  readonly codes: Uint8Array;
}

const nearest = (value: number, { thresholds }: Table): number =>
  thresholds.reduce((index, threshold, i) => (value >= threshold ? i + 1 : index), 0);

/** Codes of w [columns, stride] with scales [groups, stride] of `length` columns each. */
export function roundLevels(
  w: Float32Array,
  { columns, stride, length }: { columns: number; stride: number; length: number },
  scales: Float32Array,
  table: Table,
): Uint8Array {
  return Uint8Array.from({ length: columns * stride }, (_, at) => {
    const group = Math.floor(Math.floor(at / stride) / length);
    return table.codes[nearest(fround(w[at] / scales[group * stride + (at % stride)]), table)];
  });
}

interface Block {
  readonly columns: number;
  readonly stride: number;
  readonly pitch: number;
}

/** What a weight becomes. */
interface Rounded {
  readonly code: number;
  readonly value: number;
}

/** Rounds a block column by column, each error taken out of the columns after it; `left` is origin - value. */
function compensate(
  w: Float32Array,
  origin: Float32Array,
  { columns, stride, pitch }: Block,
  inverse: Float32Array,
  round: (value: number, column: number, row: number) => Rounded,
): { readonly codes: Uint8Array; readonly left: Float32Array } {
  const codes = new Uint8Array(columns * stride);
  const left = new Float32Array(columns * stride);
  const errors = new Float32Array(columns);
  for (let row = 0; row < stride; row++) {
    for (let i = 0; i < columns; i++) {
      let weight = w[i * stride + row];
      for (let k = 0; k < i; k++) weight = fround(weight - fround(errors[k] * inverse[i * pitch + k]));
      const { code, value } = round(weight, i, row);
      codes[i * stride + row] = code;
      errors[i] = fround(fround(weight - value) / inverse[i * pitch + i]);
      left[i * stride + row] = origin[i * stride + row] - value;
    }
  }
  return { codes, left };
}

export const compensateLevels = (
  w: Float32Array,
  origin: Float32Array,
  block: Block,
  inverse: Float32Array,
  groups: Int32Array,
  scales: Float32Array,
  table: Table,
) =>
  compensate(w, origin, block, inverse, (weight, column, row) => {
    const scale = scales[groups[column] * block.stride + row];
    const index = nearest(fround(weight / scale), table);
    return { code: table.codes[index], value: fround(table.levels[index] * scale) };
  });

export const compensateSigns = (
  w: Float32Array,
  origin: Float32Array,
  block: Block,
  inverse: Float32Array,
  groups: Int32Array,
  scales: Float32Array,
  second: Float32Array,
) =>
  compensate(w, origin, block, inverse, (weight, column, row) => {
    const at = groups[column] * block.stride + row;
    const s = weight >= 0 ? 1 : -1;
    const t = fround(weight - s * scales[at]) >= 0 ? 1 : -1;
    const code = (s === 1 ? 1 : 0) + (t === 1 ? 2 : 0);
    return { code, value: fround(s * scales[at] + t * second[at]) };
  });
