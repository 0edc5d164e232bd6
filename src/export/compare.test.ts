import { describe, expect, it } from 'vitest';
import { ExitCode } from '../base/errors.ts';
import type { Comparison } from './compare.ts';
import { compareLogits } from './compare.ts';

const [tokens, vocabulary] = [5, 4];
const expected = Float32Array.from({ length: tokens * vocabulary }, (_, i) => (i % 2 === 0 ? 1 : -1));

/** Logits that are off by so much, token by token. */
function off(...by: number[]): Comparison {
  const found = expected.map((value, i) => value + by[Math.floor(i / vocabulary)]!);
  return { path: 'model.gguf', found, expected, tolerance: 0.1, tokens, fix: 'report it' };
}

describe('logits of a written file', () => {
  it('are measured in spreads, in the worst token and in the median one', () => {
    const found = compareLogits(off(0.01, 0, 0.02, 0.08, 0.03));
    expect(found).toMatchObject({ spread: 1, tolerance: 0.1, tokens });
    expect(found.worst).toBeCloseTo(0.08, 5);
    expect(found.typical).toBeCloseTo(0.02, 5);
  });

  it('may differ in one token and not in half of them, where that is asked for', () => {
    const tolerances = { tolerance: 1, typicalTolerance: 0.1 };
    expect(compareLogits({ ...off(0, 0, 0, 0, 0.9), ...tolerances }).worst).toBeCloseTo(0.9, 5);
    const half = () => compareLogits({ ...off(0.2, 0.2, 0.2, 0, 0), ...tolerances });
    expect(half).toThrow(/half of the tokens .*at most 0\.1 .*\n {2}found: 0\.200 of it/);
  });

  it('beyond tolerance fail as a verification', () => {
    expect(() => compareLogits(off(0, 0, 0, 0, 0.11))).toThrow(
      expect.objectContaining({ exitCode: ExitCode.verification }),
    );
  });

  it('of another vocabulary fail', () => {
    const comparison = { ...off(0, 0, 0, 0, 0), found: new Float32Array(tokens * (vocabulary + 1)) };
    expect(() => compareLogits(comparison)).toThrow(/another vocabulary.*\n.*4 logits.*\n.*5 logits/);
  });
});
