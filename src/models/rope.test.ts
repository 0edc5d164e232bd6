import { describe, expect, it } from 'vitest';
import { toFloat32 } from '../base/half.ts';
import { frequenciesOf, readRope, ropeSettings, rotaryTables } from './rope.ts';

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
    expect(() => readRope({ rope_scaling: { rope_type: 'ntk', factor: 4 } })).toThrowError(
      /rope_scaling\.rope_type[\s\S]*default, linear, dynamic, llama3[\s\S]*ntk/,
    );
    expect(() => readRope({ rope_scaling: { rope_type: 'linear' } })).toThrowError(/"factor"/);
    expect(() => readRope({ partial_rotary_factor: 0.5 })).toThrowError(/partial_rotary_factor/);
  });
});

describe('inverse frequencies', () => {
  it('fall from 1 by the same factor from pair to pair', () => {
    expect([...frequenciesOf({ theta: 10000 }, 8).radians].map((f) => Math.log10(f))).toEqual([
      0, -1, -2, -3,
    ]);
  });

  it('are divided by a linear factor', () => {
    const plain = frequenciesOf({ theta: 100 }, 8).radians;
    const scaled = frequenciesOf({ theta: 100, scaling: { type: 'linear', factor: 4 } }, 8).radians;
    scaled.forEach((frequency, i) => {
      expect(frequency).toBeCloseTo(plain[i] / 4, 12);
    });
  });

  it('under llama3 leave fast pairs alone and slow slow ones', () => {
    const plain = frequenciesOf({ theta: 10000 }, 64).radians;
    const scaling = {
      type: 'llama3',
      factor: 8,
      lowFrequencyFactor: 1,
      highFrequencyFactor: 4,
      originalContext: 32,
    } as const;
    const scaled = frequenciesOf({ theta: 10000, scaling }, 64).radians;
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

describe('longer contexts are those of transformers 5.24', () => {
  const yarn = { rope_type: 'yarn', factor: 4, original_max_position_embeddings: 32 };
  const longrope = {
    rope_type: 'longrope',
    original_max_position_embeddings: 32,
    short_factor: [1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7],
    long_factor: [1, 2, 3, 4, 5, 6, 7, 8],
  };
  const odd = { beta_fast: 4, beta_slow: 0.5, truncate: false, mscale: 1, mscale_all_dim: 0.5 };
  const cases = [
    {
      what: 'yarn',
      settings: yarn,
      factor: 1.138629436111989,
      radians: [1, 0.197642356, 0.025, 0.0079056947, 0.0025, 7.905694657e-4, 2.5e-4, 7.905694656e-5],
    },
    {
      what: 'yarn with other bounds, between pairs, and scales of its own',
      settings: { ...yarn, ...odd },
      factor: 1.0648216253695715,
      radians: [1, 0.212468684, 0.0256643984, 0.0079056947, 0.0025, 7.905694657e-4, 2.5e-4, 7.905694656e-5],
    },
    {
      what: 'longrope within the original context',
      settings: longrope,
      positions: 32,
      factor: 1.1832159566199232,
      radians: [
        1, 0.287479758, 0.0833333358, 0.0243252143, 0.0071428572, 0.0021081853, 6.25e-4, 1.86016332e-4,
      ],
    },
    {
      what: 'longrope behind it',
      settings: longrope,
      positions: 33,
      factor: 1.1832159566199232,
      radians: [
        1, 0.158113882, 0.0333333351, 0.0079056947, 0.002, 5.270463298e-4, 1.428571413e-4, 3.952847328e-5,
      ],
    },
  ];

  it.each(cases)('$what', ({ settings, positions, factor, radians }) => {
    const plan = readRope({ max_position_embeddings: 128, rope_parameters: settings });
    const found = frequenciesOf(plan, 16, positions);
    expect(found.factor).toBeCloseTo(factor, 12);
    expect(found.radians).toHaveLength(radians.length);
    found.radians.forEach((value, pair) => expect(value / radians[pair]! - 1).toBeCloseTo(0, 6));
  });

  it('dynamic changes nothing within the context', () => {
    const plan = readRope({ rope_scaling: { type: 'dynamic', factor: 2 } });
    expect(frequenciesOf(plan, 8)).toEqual(frequenciesOf({ theta: 10000 }, 8));
    expect(ropeSettings(plan, { rope_scaling: { type: 'dynamic', factor: 2 } })).toMatchObject({
      rope_scaling: { rope_type: 'dynamic', factor: 2 },
    });
  });

  it('need the numbers that their kind has', () => {
    expect(() => readRope({ rope_scaling: { ...longrope, long_factor: 'none' } })).toThrowError(
      /"long_factor"/,
    );
    const short = readRope({ rope_scaling: { ...longrope, short_factor: [1, 2] } });
    expect(() => frequenciesOf(short, 16)).toThrowError(/8 numbers each/);
    expect(() => readRope({ partial_rotary_factor: 0.5 })).toThrowError(/"partial_rotary_factor"/);
    expect(readRope({ partial_rotary_factor: 0.5 }, { partial: true }).share).toBe(0.5);
    for (const share of [0, -1, 1e300, 'half'])
      expect(() => readRope({ partial_rotary_factor: share }, { partial: true })).toThrowError(/at most 1/);
  });

  it('are of a kind of layers where the file has one for each', () => {
    const json = {
      rope_parameters: { full_attention: { rope_theta: 500 }, sliding_attention: { rope_theta: 10 } },
    };
    expect(readRope(json, { kind: 'full_attention' })).toEqual({ theta: 500 });
    expect(readRope(json, { kind: 'sliding_attention' })).toEqual({ theta: 10 });
  });
});
