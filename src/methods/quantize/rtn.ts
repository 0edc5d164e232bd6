/**
 * Round-to-nearest: every weight takes the nearest code of its group's grid. The baseline of its family; needs no data.
 */

import { z } from 'zod';
import { integerGrid } from '../../encodings/grid.ts';
import { grouped } from '../../encodings/grouped.ts';
import type { LinearMethod } from '../contract.ts';
import { gridOptions } from './options.ts';

const options = z.strictObject(gridOptions);
export type RtnOptions = z.infer<typeof options>;

export const rtn: LinearMethod<RtnOptions> = {
  shape: 'linear',
  name: 'rtn',
  summary: 'Round-to-nearest: every weight takes the nearest code; needs no data.',
  options,
  statistic: () => 'none',
  async compress({ rows, columns, values }, _statistic, { bits, group, symmetric, range, scales: type }) {
    const grid = integerGrid({ bits, symmetric, range, scales: type });
    const size = group === -1 ? columns : group;
    const groups = Math.ceil(columns / size);
    const codes = new Uint8Array(rows * columns);
    const scales = new Float32Array(rows * groups);
    const zeros = symmetric ? undefined : new Uint8Array(rows * groups);
    for (let row = 0; row < rows; row++) {
      for (let g = 0; g < groups; g++) {
        const start = row * columns + g * size;
        const end = row * columns + Math.min((g + 1) * size, columns);
        const parameters = grid.fit(values.subarray(start, end));
        for (let at = start; at < end; at++) codes[at] = grid.round(values[at], parameters);
        scales[row * groups + g] = parameters.scale;
        if (zeros) zeros[row * groups + g] = parameters.zero;
      }
    }
    return grouped({ rows, columns, bits, group, codes, scales, zeros });
  },
};
