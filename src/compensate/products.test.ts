import { expect, it } from 'vitest';
import { random } from '../base/random.ts';
import type { Rows } from './products.ts';
import { products } from './products.ts';

const draws = random(3);
const matrix = (rows: number, columns: number): Rows => ({
  rows,
  values: Float32Array.from({ length: rows * columns }, () => draws.normal()),
});

it.each([16, 48, 200])('gives the same bits on one thread and on twelve, with %i rows', async (m) => {
  const [b, k] = [16, 4096];
  const [c, a, d, ut] = [matrix(m, b), matrix(m, k), matrix(b, k), matrix(b, b)];
  const [v, e, w] = [matrix(m, b), matrix(m, k), matrix(b, k)];
  const outcome = async (threads: number) => {
    const engine = await products(threads);
    const [s, r, panel, now] = [matrix(m, b), matrix(m, b), matrix(m, b), matrix(b, k)];
    await engine.remainder(c, a, d, s);
    await engine.panel(s, ut, r, panel);
    await engine.feedback(w, v, e, now);
    return [s, r, panel, now].map(({ values }) => Buffer.from(values.buffer).toString('base64'));
  };
  const [alone, together] = [await outcome(1), await outcome(12)];
  alone.forEach((bits, index) => expect(bits === together[index]).toBe(true));
});
