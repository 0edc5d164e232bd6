import { describe, expect, it } from 'vitest';
import { toFloat32 } from '../base/half.ts';
import { inverseFrequencies, readRope, ropeSettings, rotaryTables } from './rope.ts';

describe('rotary positions in config.json', () => {
  const llama3 = {
    factor: 8,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 32,
  };

  it('are read in the old spelling and in the one of transformers 5', () => {
    const old = readRope({ rope_theta: 500, rope_scaling: { rope_type: 'llama3', ...llama3 } });
    const current = readRope({ rope_parameters: { rope_theta: 500, rope_type: 'llama3', ...llama3 } });
    expect(old).toEqual(current);
    expect(old.theta).toBe(500);
    expect(old.scaling).toMatchObject({ type: 'llama3', factor: 8, originalContext: 32 });
  });

  it('have theta 10000 and no scaling where nothing is said', () => {
    expect(readRope({})).toEqual({ theta: 10000 });
    expect(readRope({ rope_scaling: null })).toEqual({ theta: 10000 });
  });

  it('take the kind of scaling under its oldest name too', () => {
    expect(readRope({ rope_scaling: { type: 'linear', factor: 2 } }).scaling).toEqual({
      type: 'linear',
      factor: 2,
    });
  });

  it('are those of rope_scaling where both are given, as in transformers 5', () => {
    const scaling = { rope_type: 'linear', factor: 2 };
    const parameters = { rope_theta: 500, rope_type: 'default' };
    const both = { rope_parameters: parameters, rope_scaling: scaling };
    expect(readRope(both)).toEqual({ theta: 10000, scaling: { type: 'linear', factor: 2 } });
    expect(readRope({ ...both, rope_theta: 500 }).theta).toBe(500);
    expect(readRope({ ...both, rope_scaling: {} })).toEqual({ theta: 500 });
    expect(readRope({ rope_parameters: { rope_theta: null }, rope_theta: 500 })).toEqual({ theta: 500 });
  });

  it('are written in both spellings, which give the same plan', () => {
    for (const json of [
      { rope_theta: 500 },
      { rope_scaling: { type: 'linear', factor: 2 } },
      { rope_parameters: { rope_theta: 500, rope_type: 'llama3', ...llama3 } },
    ]) {
      const plan = readRope(json);
      const { rope_parameters, ...old } = ropeSettings(plan, json);
      expect(readRope({ rope_parameters })).toEqual(plan);
      expect(readRope(old)).toEqual(plan);
    }
  });

  it('are refused where kinds of layers have their own', () => {
    const layers = { full_attention: { rope_theta: 500 }, sliding_attention: { rope_theta: 10 } };
    expect(() => readRope({ rope_parameters: layers })).toThrowError(
      /rope_parameters\.full_attention[\s\S]*one rotation for all layers/,
    );
  });

  it('are refused by name where their scaling is not computed', () => {
    expect(() => readRope({ rope_scaling: { rope_type: 'yarn', factor: 4 } })).toThrowError(
      /rope_scaling\.rope_type[\s\S]*default, linear or llama3[\s\S]*yarn/,
    );
    expect(() => readRope({ rope_scaling: { rope_type: 'linear' } })).toThrowError(/"factor"/);
    expect(() => readRope({ partial_rotary_factor: 0.5 })).toThrowError(/partial_rotary_factor/);
  });
});

describe('inverse frequencies', () => {
  it('fall from 1 by the same factor from pair to pair', () => {
    expect([...inverseFrequencies({ theta: 10000 }, 8)].map((f) => Math.log10(f))).toEqual([0, -1, -2, -3]);
  });

  it('are divided by a linear factor', () => {
    const plain = inverseFrequencies({ theta: 100 }, 8);
    const scaled = inverseFrequencies({ theta: 100, scaling: { type: 'linear', factor: 4 } }, 8);
    scaled.forEach((frequency, i) => {
      expect(frequency).toBeCloseTo(plain[i] / 4, 12);
    });
  });

  it('under llama3 leave fast pairs alone and slow slow ones', () => {
    const plain = inverseFrequencies({ theta: 10000 }, 64);
    const scaling = {
      type: 'llama3',
      factor: 8,
      lowFrequencyFactor: 1,
      highFrequencyFactor: 4,
      originalContext: 32,
    } as const;
    const scaled = inverseFrequencies({ theta: 10000, scaling }, 64);
    expect(scaled[0]).toBe(plain[0]);
    expect(scaled[31]).toBeCloseTo(plain[31] / 8, 12);
    scaled.forEach((frequency, i) => {
      expect(frequency).toBeLessThanOrEqual(plain[i]);
      expect(frequency).toBeGreaterThanOrEqual(plain[i] / 8);
    });
  });

  it('times the position give the tables', () => {
    const { cos, sin } = rotaryTables({ theta: 10000 }, 4, 3);
    expect(cos.shape).toEqual([3, 2]);
    const expected = [0, 1, 2].flatMap((position) => [position, position / 100]);
    expect(toFloat32(cos)).toEqual(Float32Array.from(expected, Math.cos));
    expect(toFloat32(sin)).toEqual(Float32Array.from(expected, Math.sin));
  });
});
