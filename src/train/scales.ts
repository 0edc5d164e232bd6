/** Grouped integers whose scales are being trained: codes stay, w = (code - zero) * scale, scales are a graph's input. */

import { floatToHalf } from '../base/half.ts';
import type { Stored } from '../base/tensor.ts';
import { stored } from '../base/tensor.ts';
import type { Encoding } from '../encodings/encoding.ts';
import { ungrouped } from '../encodings/grouped.ts';
import { restore } from '../encodings/restore.ts';
import { cast, fusedMatmul, mul, reshape, slice } from '../graph/ops.ts';

export interface Tunable {
  /** Multiplies as differentiable nodes; its input "scales" is `scales`. */
  readonly encoding: Encoding;
  /** [rows, groups]: what graphs are fed, whoever writes to it. */
  readonly scales: Float32Array;
  /** The encoding with the scales as they are now, in the type that they are stored in. */
  finished(): Encoding;
}

/** Undefined where a matrix is no grouped integers. */
export function tunable(encoding: Encoding): Tunable | undefined {
  const parts = ungrouped(encoding);
  if (!parts) return undefined;
  const { rows, columns, length, codes, zeros, scales } = parts;
  const groups = scales.length / rows;
  const centred = new Int8Array(rows * groups * length);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const zero = zeros[row * groups + Math.floor(column / length)];
      // Eight bits off their middle do not fit: such a matrix has little to gain.
      const code = codes[row * columns + column] - zero;
      if (code < -128 || code > 127) return undefined;
      centred[row * groups * length + column] = code;
    }
  }
  const tensors = {
    codes: stored('int8', [rows, groups, length], centred),
    scales: stored('float32', [rows, groups, 1], scales),
  };
  return {
    scales,
    encoding: {
      ...encoding,
      multiply(x, place) {
        const factors = place('scales', tensors.scales);
        const values = mul(cast(place('codes', tensors.codes), 'float32'), factors);
        const padded = reshape(values, [rows, groups * length]);
        const weight = groups * length === columns ? padded : slice(padded, 1, 0, columns, columns);
        return fusedMatmul(x, weight, { transB: true });
      },
    },
    finished: () => withScales(encoding, scales),
  };
}

function withScales(encoding: Encoding, scales: Float32Array): Encoding {
  const before = encoding.tensors.get('scales')!;
  const values = before.dtype === 'float16' ? floatToHalf(scales) : scales.slice();
  const after: Stored = stored(before.dtype, before.shape, values);
  return restore({ ...encoding, tensors: new Map([...encoding.tensors, ['scales', after]]) });
}
