/** The authors' own numbers; how they were made stands in test/goldens/README.md. */

import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { toFloat32 } from '../../base/half.ts';
import type { Bits } from '../../encodings/grid.ts';
import type { GroupSize, PackedCodes } from '../../encodings/grouped.ts';
import { groupedPacked } from '../../encodings/grouped.ts';
import { openSafetensors } from '../../io/safetensors/read.ts';
import { compensateIntegers } from '../../compensate/integers.ts';
import { roundToNearest } from '../../rounding/nearest.ts';

const folder = new URL('../../../test/goldens/', import.meta.url);
const tensors = (name: string) => openSafetensors(new URL(`${name}.safetensors`, folder).pathname).tensors;
const { cases, relative_output_error: errors } = JSON.parse(
  readFileSync(new URL('goldens.json', folder), 'utf8'),
) as { cases: Record<string, string[]>; relative_output_error: Record<string, number> };
const [rows, columns, tokens] = [48, 128, 512];
const inputs = tensors('inputs');
const weight = toFloat32(inputs.get('weight')!);
const x = toFloat32(inputs.get('inputs')!);

function gram(): Float32Array {
  const sums = new Float64Array(columns * columns);
  for (let t = 0; t < tokens; t++) {
    for (let i = 0; i < columns; i++) {
      const value = x[t * columns + i];
      for (let j = 0; j < columns; j++) sums[i * columns + j] += value * x[t * columns + j];
    }
  }
  return Float32Array.from(sums);
}

/** ||X (W' - W)^T|| / ||X W^T|| */
function relativeOutputError(values: Float32Array): number {
  let [difference, whole] = [0, 0];
  for (let t = 0; t < tokens; t++) {
    for (let row = 0; row < rows; row++) {
      let [d, y] = [0, 0];
      for (let i = 0; i < columns; i++) {
        const at = row * columns + i;
        d += x[t * columns + i] * (values[at] - weight[at]);
        y += x[t * columns + i] * weight[at];
      }
      difference += d * d;
      whole += y * y;
    }
  }
  return Math.sqrt(difference / whole);
}

/** "b4.sym.g32.act.static" */
function choiceOf(name: string) {
  const [bits, symmetry, group] = name.split('.');
  return {
    bits: Number(bits.slice(1)) as Bits,
    symmetric: symmetry === 'sym',
    group: Number(group.slice(1)) as GroupSize,
    range: name.endsWith('mse') ? ('mse' as const) : ('minmax' as const),
    scales: 'float32' as const,
  };
}

const gptqChoice = (name: string) => ({
  ...choiceOf(name),
  activationOrder: name.includes('.act'),
  staticGroups: name.includes('.static'),
  damping: 0.01,
  blockSize: 128,
});

function check(codes: PackedCodes, family: string, name: string) {
  const values = groupedPacked(codes).dense();
  const expected = toFloat32(tensors(family).get(name)!);
  let equal = 0;
  values.forEach((value, at) => {
    if (Math.abs(value - expected[at]) <= 1e-5 * Math.abs(expected[at]) + 1e-9) equal++;
  });
  expect(equal / values.length).toBeGreaterThanOrEqual(0.99);
  expect(relativeOutputError(values)).toBeLessThanOrEqual(1.01 * errors[`${family}/${name}`]);
}

describe('rtn meets the authors', () => {
  it.each(cases.rtn)('%s', async (name) => {
    check(await roundToNearest({ rows, columns, values: weight.slice() }, choiceOf(name)), 'rtn', name);
  });
});

describe('gptq meets the authors', () => {
  it.each(cases.gptq)('%s', async (name) => {
    check(
      await compensateIntegers({ rows, columns, values: weight.slice() }, gram(), gptqChoice(name)),
      'gptq',
      name,
    );
  });

  // Where grids are fixed beforehand, the size of the blocks changes only the order of sums.
  it.each(cases.gptq.filter((name) => name.includes('g-1') || name.includes('static')))(
    '%s in blocks of 48',
    async (name) => {
      const choice = { ...gptqChoice(name), blockSize: 48 };
      check(
        await compensateIntegers({ rows, columns, values: weight.slice() }, gram(), choice),
        'gptq',
        name,
      );
    },
  );
});
