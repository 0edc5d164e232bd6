/** Matrices that GPTQModel and mlx packed open as the values that they dequantize them to. */

import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { halfCode, halfValue } from '../../base/half.ts';
import type { DType } from '../../base/tensor.ts';
import { stored } from '../../base/tensor.ts';
import type { Bits } from '../../encodings/grid.ts';
import { awqTensors } from '../../export/safetensors/awq.ts';
import { gptqTensors } from '../../export/safetensors/gptq.ts';
import { awqEncoding } from './awq.ts';
import { gptqEncoding } from './gptq.ts';
import { mlxEncoding } from './mlx.ts';

interface Golden {
  readonly dtype: DType;
  readonly shape: number[];
  readonly bytes: string;
}
interface Case {
  readonly bits: Bits;
  readonly order: string;
  readonly tensors: Readonly<Record<string, Golden>>;
  readonly dense: Golden;
}
const goldens = JSON.parse(readFileSync('test/goldens/checkpoints.json', 'utf8')) as {
  readonly group: number;
  readonly gptq: readonly Case[];
  readonly awq: Case;
  readonly mlx: readonly Case[];
};
const { group } = goldens;

const bytesOf = ({ bytes }: Golden) => new Uint8Array(Buffer.from(bytes, 'base64'));
const tensorsOf = ({ tensors }: Case) =>
  new Map(
    Object.entries(tensors).map(([name, tensor]) => [
      name,
      stored(tensor.dtype, tensor.shape, bytesOf(tensor)),
    ]),
  );
const denseOf = ({ dense }: Case) => new Float32Array(bytesOf(dense).buffer);

describe('what GPTQModel packs', () => {
  it.each(goldens.gptq)('in $bits bits, $order', (golden) => {
    const { bits, order } = golden;
    const found = gptqEncoding(tensorsOf(golden), { bits, group, version: 2 });
    const expected = denseOf(golden);
    // Columns in another order than their groups are held as float16.
    const held = order === 'in order' ? expected : expected.map((value) => halfValue(halfCode(value)));
    expect(found.dense()).toEqual(held);
    if (order !== 'in order') return;
    const again = gptqTensors(found, { version: 2 })!;
    for (const [name, tensor] of tensorsOf(golden)) expect(again.get(name)!.bytes()).toEqual(tensor.bytes());
  });

  it('for AWQ', () => {
    const tensors = tensorsOf(goldens.awq);
    const found = awqEncoding(tensors, { group });
    expect(found.dense()).toEqual(denseOf(goldens.awq));
    const again = awqTensors(found, { group })!;
    for (const [name, tensor] of tensors) expect(again.get(name)!.bytes()).toEqual(tensor.bytes());
  });
});

describe('what mlx packs', () => {
  it.each(goldens.mlx)('in $bits bits, up to float16', (golden) => {
    const found = mlxEncoding(tensorsOf(golden), { bits: golden.bits, group }).dense();
    const expected = denseOf(golden);
    const worst = found.reduce((most, value, i) => Math.max(most, Math.abs(value - expected[i])), 0);
    expect(worst).toBeLessThan(1e-3);
  });
});
