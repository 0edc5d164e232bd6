import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { Block } from '../../contract/method.ts';
import { rtn } from './rtn.ts';
import { plainly } from '../../rounding/nearest.ts';
import { block, down, goldenCase, scalesIn } from '../../../test/scaling-cases.ts';
import { smoothquant } from './smoothquant.ts';

const { smoothquant: goldens } = JSON.parse(
  readFileSync(new URL('../../../test/goldens/scaling.json', import.meta.url), 'utf8'),
) as { smoothquant: { alpha: number; scales: number[] }[] };

const toEight = rtn.options.parse({ bits: 8, group: -1, symmetric: true, range: 'minmax' });
const rounded: Block['rounded'] = async (_, weight) => (await plainly(weight, toEight)).dense();

it.each(goldens)('alpha $alpha: the same scales as the authors', async ({ alpha, scales }) => {
  const found = await smoothquant.rewrite(block(goldenCase(), rounded), smoothquant.options.parse({ alpha }));
  scalesIn(found).forEach((scale, channel) => expect(scale / scales[channel]).toBeCloseTo(1, 4));
});

describe('weights and inputs of eight bits, where some channels are large', () => {
  const { weight, inputs } = goldenCase();
  const { rows, columns } = weight;

  /** Squared error of the outputs, every token's inputs rounded in steps of its largest. */
  async function errorWith(scales: Float32Array): Promise<number> {
    const scaled = { rows, columns, values: weight.values.map((w, index) => w * scales[index % columns]) };
    const w = (await rounded(down, scaled))!;
    let error = 0;
    for (let start = 0; start < inputs.length; start += columns) {
      const x = inputs.subarray(start, start + columns);
      const smooth = x.map((value, column) => value / scales[column]);
      const step = Math.max(...smooth.map(Math.abs)) / 127;
      for (let row = 0; row < rows; row++) {
        let difference = 0;
        for (let column = 0; column < columns; column++) {
          const at = row * columns + column;
          difference += Math.round(smooth[column] / step) * step * w[at] - x[column] * weight.values[at];
        }
        error += difference ** 2;
      }
    }
    return error;
  }
  const chosen = async (alpha: number | 'search') =>
    scalesIn(
      await smoothquant.rewrite(block({ weight, inputs }, rounded), smoothquant.options.parse({ alpha })),
    );

  it('lose less when it is smoothed, least with the alpha that is searched', async () => {
    const [none, half, searched] = [
      await errorWith(new Float32Array(columns).fill(1)),
      await errorWith(await chosen(0.5)),
      await errorWith(await chosen('search')),
    ];
    expect(half).toBeLessThan(0.5 * none);
    expect(searched).toBeLessThan(1.02 * half);
  });

  it('are smoothed in the same way every time', async () => {
    expect(await chosen('search')).toEqual(await chosen('search'));
  });
});
