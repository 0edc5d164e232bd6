import { describe, expect, it } from 'vitest';
import type { SamplingOptions } from './sample.ts';
import { sampler } from './sample.ts';

/** Probabilities 0.4, 0.3, 0.2, 0.1 at temperature 1, not in order. */
const logits = Float32Array.of(0.2, 0.4, 0.1, 0.3).map(Math.log);
const order = [1, 3, 0, 2];

/** How often each of the four is drawn, most likely first. */
function shares(options: SamplingOptions): number[] {
  const draws = 20_000;
  const pick = sampler({ temperature: 1, seed: 7, ...options });
  const counts = [0, 0, 0, 0];
  for (let i = 0; i < draws; i++) counts[pick(logits)]++;
  return order.map((id) => counts[id] / draws);
}

describe('sampler', () => {
  it.each([
    { options: {}, expected: [0.4, 0.3, 0.2, 0.1] },
    { options: { temperature: 0.5 }, expected: [16 / 30, 9 / 30, 4 / 30, 1 / 30] },
    { options: { topK: 2 }, expected: [4 / 7, 3 / 7, 0, 0] },
    { options: { topP: 0.65 }, expected: [4 / 7, 3 / 7, 0, 0] },
    { options: { topP: 0.75 }, expected: [4 / 9, 3 / 9, 2 / 9, 0] },
    { options: { topK: 3, topP: 0.3 }, expected: [1, 0, 0, 0] },
    { options: { temperature: 0 }, expected: [1, 0, 0, 0] },
  ])('$options: each as often as it is likely', ({ options, expected }) => {
    const found = shares(options);
    // Four standard deviations of 20,000 draws.
    const far = found.map((share, i) => Math.abs(share - expected[i]));
    expect(Math.max(...far)).toBeLessThan(4 * Math.sqrt(0.25 / 20_000));
    expect(found.map((share) => share === 0)).toEqual(expected.map((share) => share === 0));
  });

  it('draws the same from the same seed and something else from another', () => {
    const draw = (seed: number) => {
      const pick = sampler({ temperature: 1, seed });
      return Array.from({ length: 30 }, () => pick(logits));
    };
    expect(draw(1)).toEqual(draw(1));
    expect(draw(1)).not.toEqual(draw(2));
  });

  it.each([
    [Float32Array.of(1, Number.NaN)],
    [Float32Array.of(Number.NaN, 1)],
    [Float32Array.of(Number.POSITIVE_INFINITY, 1)],
  ])('refuses logits that are not finite: %s', (broken) => {
    expect(() => sampler({})(broken)).toThrow('not finite');
  });
});
