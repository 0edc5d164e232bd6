/** What is compressed with where nobody names a method. */

import { describe, expect, it } from 'vitest';
import { findMethod } from '../methods/index.ts';
import { denseValues } from '../encodings/dense.ts';
import { knownSlow, measuredSlow } from './format.ts';
import { formats } from './index.ts';
import { groupFor } from './recommend.ts';

const widths = [576, 1536];

describe.each(Object.entries(formats))('for %s', (_, format) => {
  it('is a method with options that it has, at every width, with text and without', () => {
    for (const bits of [2, 3, 4, 8]) {
      for (const text of [true, false]) {
        const { step, reason } = format.recommend({ bits, text, widths });
        const { method, ...options } = step;
        expect(() => findMethod(method).options.parse(options)).not.toThrow();
        // One plain line: what is more stands in the documentation.
        expect(reason).toMatch(/^[^(\n]{10,80}$/);
      }
    }
  });

  it('needs no text where there is none', () => {
    const { step } = format.recommend({ bits: 4, text: false, widths });
    expect(['rtn', 'ggml']).toContain(step.method);
  });
});

describe('what is slower than its original is said', () => {
  const speed = (prefillTokensPerSecond: number, decodeTokensPerSecond: number) => ({
    prefillTokensPerSecond,
    decodeTokensPerSecond,
  });

  it('by measured speeds', () => {
    const found = (prompt: number, decode: number) =>
      measuredSlow({ engine: '', original: speed(100, 10), compressed: speed(prompt, decode) });
    expect(measuredSlow(undefined)).toBeUndefined();
    expect(found(95, 20)).toBeUndefined();
    expect(found(100, 5)).toBe('Slower than the original: generates at 0.50 times its tokens a second.');
    expect(found(50, 5)).toContain('reads prompts at 0.50 times and generates at 0.50 times its');
  });

  it('by what products are known for', () => {
    const plain = denseValues(new Float32Array(4), 2, 2);
    expect(knownSlow([plain])).toBeUndefined();
    expect(knownSlow([plain, { ...plain, slow: 'it is' }])).toBe('Slower than the original: it is.');
  });
});

describe('what vLLM loads', () => {
  it('has zero points as compressed-tensors and as AWQ, none as GPTQ', () => {
    const wanted = { bits: 4, text: true, widths };
    expect(formats.gptq.recommend(wanted).step).toMatchObject({ method: 'gptq', symmetric: true });
    for (const format of [formats['compressed-tensors'], formats.awq])
      expect(format.recommend(wanted).step).not.toHaveProperty('symmetric');
  });

  it('has groups that divide all rows', () => {
    expect(groupFor(widths, [128, 64, 32])).toBe(64);
    expect(groupFor([], [128, 64, 32])).toBe(128);
  });
});
