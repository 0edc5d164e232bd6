import { describe, expect, it } from 'vitest';
import { LapidaryError } from '../../base/errors.ts';
import { random } from '../../base/random.ts';
import { blockTypeNamed } from '../../encodings/blocks/index.ts';
import { encodedBytes } from '../../encodings/encoding.ts';
import { compensated } from '../../compensate/block-types.ts';
import { ggml } from './ggml.ts';

const [rows, columns, tokens] = [24, 512, 1000];
const { normal } = random(4);
const values = Float32Array.from({ length: rows * columns }, () => 0.05 * normal());

/** Inputs that go together, some columns larger than others, as activations are. */
const inputs = Array.from({ length: tokens }, () => {
  const shared = normal();
  return Float32Array.from({ length: columns }, (_, i) => (1 + (i % 5)) * (0.7 * shared + normal()));
});
const gram = new Float32Array(columns * columns);
for (const x of inputs) {
  for (let i = 0; i < columns; i++) for (let j = 0; j < columns; j++) gram[i * columns + j] += x[i] * x[j];
}
const squares = Float32Array.from({ length: columns }, (_, i) => gram[i * columns + i]);

/** |X (W - W')^T|^2. */
function outputError(found: Float32Array): number {
  const difference = found.map((value, at) => value - values[at]);
  let error = 0;
  for (let row = 0; row < rows; row++) {
    const d = difference.subarray(row * columns, (row + 1) * columns);
    for (let i = 0; i < columns; i++) {
      let sum = 0;
      for (let j = 0; j < columns; j++) sum += gram[i * columns + j] * d[j];
      error += sum * d[i];
    }
  }
  return error;
}

const compress = (options: unknown) =>
  ggml.compress(
    { rows, columns, values: values.slice() },
    { tokens, squares, gram: gram.slice() },
    ggml.options.parse(options),
  );

describe.each(['Q2_K', 'Q3_K', 'Q4_K', 'Q5_K', 'Q6_K', 'Q4_0', 'Q4_1', 'Q5_0', 'Q5_1', 'Q8_0'])(
  '%s',
  (type) => {
    it('with errors compensated loses less of the outputs, at the same bytes', async () => {
      const [plain, better] = [
        await compress({ type, fit: 'importance' }),
        await compress({ type, fit: 'compensated' }),
      ];
      expect(encodedBytes(better)).toBe(encodedBytes(plain));
      expect(better.label).toBe(type);
      expect(outputError(better.dense())).toBeLessThan(0.8 * outputError(plain.dense()));
    });
  },
);

it('gives ggml its own bytes where no errors are compensated', async () => {
  const encoding = await compress({ type: 'Q4_K', fit: 'importance' });
  const importance = squares.map((square) => square / tokens);
  const expected = blockTypeNamed('Q4_K').quantize(values, columns, importance);
  expect(encoding.tensors.get('blocks')!.bytes()).toEqual(expected);
});

it('does not depend on the number of threads', async () => {
  const weight = { rows, columns, values };
  const [one, three] = await Promise.all(
    [1, 3].map((threads) =>
      compensated(blockTypeNamed('Q3_K'), weight, gram.slice(), squares, 0.01, threads),
    ),
  );
  expect(one).toEqual(three);
});

it('keeps a row of zeros, whose scales are 0, at 0', async () => {
  const weight = { rows: 2, columns, values: new Float32Array(2 * columns) };
  weight.values.set(values.subarray(0, columns));
  const type = blockTypeNamed('Q4_K');
  const back = type.dequantize(await compensated(type, weight, gram.slice(), squares, 0.01));
  expect(back.subarray(columns).every((value) => value === 0)).toBe(true);
});

it('takes what llama.cpp takes where rows are no whole blocks', async () => {
  const narrow = (width: number) => {
    const weight = { rows: 2, columns: width, values: values.slice(0, 2 * width) };
    return ggml.compress(weight, { tokens: 0 }, ggml.options.parse({ type: 'Q4_K', fit: 'plain' }));
  };
  expect((await narrow(64)).label).toBe('Q5_0');
  expect((await narrow(172)).label).toBe('float16');
});

it('says what is missing', async () => {
  const weight = { rows, columns, values: values.slice() };
  const parse = (fit: string) => ggml.options.parse({ fit });
  await expect(ggml.compress(weight, { tokens: 0 }, parse('importance'))).rejects.toThrow(LapidaryError);
  await expect(ggml.compress(weight, { tokens, squares }, parse('compensated'))).rejects.toThrow('Gram');
});
