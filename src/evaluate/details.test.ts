import { describe, expect, it } from 'vitest';
import { random } from '../base/random.ts';
import type { MeanLoss } from './details.ts';
import { evaluationDetails } from './details.ts';
import type { Comparison } from './reduce.ts';

/** Sequences of random ids, and a random comparison of all that is predicted in them. */
function sample(lengths: readonly number[], seed = 1) {
  const draws = random(seed);
  const ids = (length: number) => Int32Array.from({ length }, () => draws.integer(100));
  const sequences = lengths.map(ids);
  const tokens = lengths.reduce((sum, length) => sum + length - 1, 0);
  const floats = () => Float32Array.from({ length: tokens }, () => Math.exp(2 * draws.normal()));
  const [top, originalTop] = [ids(tokens), ids(tokens)];
  for (let token = 0; token < tokens; token += 2) originalTop[token] = top[token];
  const [nats, originalNats, kl, topNats, originalTopNats] = [
    floats(),
    floats(),
    floats(),
    floats(),
    floats(),
  ];
  const compared: Comparison = { nats, originalNats, kl, top, topNats, originalTop, originalTopNats };
  return { sequences, compared, tokens };
}

const mean = (values: Float32Array) => values.reduce((sum, value) => sum + value, 0) / values.length;

/** The whole from its parts. */
function whole(parts: readonly MeanLoss[]) {
  const tokens = parts.reduce((sum, part) => sum + part.tokens, 0);
  const over = (pick: (part: MeanLoss) => number) =>
    parts.reduce((sum, part) => sum + part.tokens * pick(part), 0) / tokens;
  const [nats, kl, same] = [over((part) => part.nats), over((part) => part.kl), over((part) => part.same)];
  return { tokens, nats, originalNats: over((part) => part.originalNats), kl, same };
}

describe('details of an evaluation', () => {
  const { sequences, compared, tokens } = sample([40, 700, 2, 311]);
  const details = evaluationDetails(sequences, compared);

  it.each(['sequences', 'positions'] as const)('by %s add up to the whole', (by) => {
    const { nats, originalNats, kl, same, ...rest } = whole(details[by]);
    expect(rest.tokens).toBe(tokens);
    expect(nats).toBeCloseTo(mean(compared.nats), 4);
    expect(originalNats).toBeCloseTo(mean(compared.originalNats), 4);
    expect(kl).toBeCloseTo(mean(compared.kl), 4);
    const equal = compared.top.filter((token, index) => token === compared.originalTop[index]);
    expect(same).toBeCloseTo(equal.length / tokens, 10);
  });

  it('have one row a sequence, in order', () => {
    expect(details.sequences.map((row) => row.tokens)).toEqual([39, 699, 1, 310]);
    expect(details.sequences[0].kl).toBeCloseTo(mean(compared.kl.subarray(0, 39)), 4);
    expect(details.sequences[2].nats).toBe(compared.nats[39 + 699]);
  });

  it.each([
    [[2], 1],
    [[65], 64],
    [[66], 33],
    [[40, 700, 2, 311], 64],
  ])('cover the positions of sequences of %j tokens once, in %i buckets', (lengths, count) => {
    const { positions } = evaluationDetails(...pairOf(sample(lengths)));
    expect(positions).toHaveLength(count);
    expect(positions[0].from).toBe(1);
    expect(positions.at(-1)!.to).toBe(Math.max(...lengths));
    positions.forEach(({ from, to, tokens: found }, index) => {
      if (index > 0) expect(from).toBe(positions[index - 1].to);
      const there = lengths.map((length) => Math.max(0, Math.min(to, length) - from));
      expect(found).toBe(there.reduce((sum, value) => sum + value, 0));
    });
  });

  it('count every divergence once, up to the largest', () => {
    const { divergences } = details;
    const largest = Math.max(...compared.kl);
    expect(divergences[0]).toMatchObject({ from: 0, to: 1e-6 });
    expect(divergences.map(({ to }) => to)).toContain(0.003);
    divergences.forEach(({ from, to, tokens: count }, index) => {
      if (index > 0) expect(from).toBe(divergences[index - 1].to);
      expect(count).toBe(compared.kl.filter((value) => from <= value && value < to).length);
    });
    expect(divergences.at(-1)!.tokens).toBeGreaterThan(0);
    expect(divergences.at(-1)!.to).toBeGreaterThan(largest);
    expect(divergences.reduce((sum, bucket) => sum + bucket.tokens, 0)).toBe(tokens);
  });

  it('name the tokens that changed most, first those whose answer became another, worst first, with what stood before', () => {
    const { changed } = details;
    expect(changed).toHaveLength(50);
    const worst = (became: boolean) =>
      compared.kl
        .filter((_, token) => (compared.top[token] !== compared.originalTop[token]) === became)
        .sort()
        .reverse();
    expect(changed.map(({ kl }) => kl)).toEqual([...worst(true).slice(0, 40), ...worst(false).slice(0, 10)]);
    const offsets = [0, 39, 738, 739];
    for (const { sequence, position, kl, context, target, original, compressed } of changed) {
      const token = offsets[sequence] + position - 1;
      const ids = sequences[sequence];
      expect(kl).toBe(compared.kl[token]);
      expect([...context, target]).toEqual(Array.from(ids.slice(Math.max(0, position - 24), position + 1)));
      expect(original.top).toBe(compared.originalTop[token]);
      expect(compressed.top).toBe(compared.top[token]);
      expect(original.probability).toBeCloseTo(Math.exp(-compared.originalTopNats[token]), 10);
      expect(compressed.probability).toBeCloseTo(Math.exp(-compared.topNats[token]), 10);
      expect(original.target).toBeCloseTo(Math.exp(-compared.originalNats[token]), 10);
      expect(compressed.target).toBeCloseTo(Math.exp(-compared.nats[token]), 10);
    }
  });

  it('name all tokens where there are few, and none that did not change', () => {
    const small = sample([4, 3]);
    expect(evaluationDetails(...pairOf(small)).changed).toHaveLength(5);
    small.compared.kl.fill(0);
    const { changed, divergences } = evaluationDetails(...pairOf(small));
    expect(changed).toEqual([]);
    expect(divergences).toEqual([{ from: 0, to: 1e-6, tokens: 5 }]);
  });
});

const pairOf = ({ sequences, compared }: ReturnType<typeof sample>) => [sequences, compared] as const;
