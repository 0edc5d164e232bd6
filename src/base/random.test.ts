import { describe, expect, it } from 'vitest';
import { random } from './random.ts';

const draw = (count: number, next: () => number) => Array.from({ length: count }, next);

describe('random', () => {
  it('gives the same sequence for the same seed, on every machine and in every version', () => {
    const numbers = random(0);
    expect(draw(3, numbers.uniform)).toEqual([0.35254930905168747, 0.7833973096410776, 0.8522764420759823]);
    expect(draw(3, numbers.normal)).toEqual([0.7974524825841135, 1.3158006751690003, 1.0850627760281473]);
    expect(numbers.shuffle([0, 1, 2, 3, 4, 5, 6, 7])).toEqual([2, 4, 0, 3, 7, 6, 5, 1]);
  });

  it('gives other sequences for other seeds, small, large and negative', () => {
    const seeds = [0, 1, 2, 3, -1, 2 ** 32, 2 ** 32 + 1, Number.MAX_SAFE_INTEGER];
    expect(new Set(seeds.map((seed) => random(seed).uniform())).size).toBe(seeds.length);
  });

  it('is uniform in [0, 1) and standard normal', () => {
    const numbers = random(7);
    const uniforms = draw(100_000, numbers.uniform);
    expect(Math.min(...uniforms.slice(0, 50_000))).toBeGreaterThanOrEqual(0);
    expect(uniforms.every((value) => value >= 0 && value < 1)).toBe(true);
    expect(mean(uniforms)).toBeCloseTo(0.5, 2);
    const normals = draw(100_000, numbers.normal);
    expect(Math.abs(mean(normals))).toBeLessThan(0.015);
    expect(Math.abs(mean(normals.map((value) => value ** 2)) - 1)).toBeLessThan(0.02);
    expect(Math.abs(mean(normals.map((value) => value ** 4)) - 3)).toBeLessThan(0.15);
  });

  it('draws every integer below a bound about equally often', () => {
    const numbers = random(3);
    const counts = new Array(6).fill(0);
    for (let i = 0; i < 60_000; i++) counts[numbers.integer(6)]++;
    for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(500);
    expect(() => numbers.integer(0)).toThrow(RangeError);
    expect(() => random(0.5)).toThrow(RangeError);
  });

  it('forks by label, whatever was drawn before', () => {
    const fresh = random(5);
    const used = random(5);
    draw(17, used.normal);
    expect(used.fork('a').uniform()).toBe(fresh.fork('a').uniform());
    const others = ['a', 'b', 'ab', 'ba', ''].map((label) => fresh.fork(label).uniform());
    expect(new Set([...others, fresh.uniform(), random(6).fork('a').uniform()]).size).toBe(7);
    expect(fresh.fork('a').fork('b').uniform()).not.toBe(fresh.fork('b').fork('a').uniform());
  });

  it('shuffles typed arrays in place', () => {
    const array = Int32Array.from({ length: 100 }, (_, i) => i);
    expect(random(1).shuffle(array)).toBe(array);
    expect([...array]).not.toEqual([...array].sort((a, b) => a - b));
    expect(new Set(array).size).toBe(100);
  });
});

function mean(values: number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
