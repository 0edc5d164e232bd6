/** What is compressed with where nobody names a method. */

import { describe, expect, it } from 'vitest';
import { findMethod } from '../methods/index.ts';
import { recipeInput } from '../cli/recipe.ts';
import { denseValues } from '../encodings/dense.ts';
import { parseRecipe } from '../recipe.ts';
import { slowness } from './format.ts';
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
        expect(reason).not.toBe('');
      }
    }
  });

  it('needs no text where there is none', () => {
    const { step } = format.recommend({ bits: 4, text: false, widths });
    expect(['rtn', 'ggml']).toContain(step.method);
  });
});

describe('engines that --for names', () => {
  const flags = (values: Readonly<Record<string, unknown>>) =>
    parseRecipe(recipeInput(undefined, undefined, (name) => values[name]));

  it('WebAssembly: products of 8-bit integers, or weights restored at load', () => {
    const wide = flags({ for: 'wasm' });
    expect(wide.steps.map(({ method }) => method.name)).toEqual(['smoothquant', 'w8a8', 'w8a8']);
    const narrow = flags({ for: 'wasm', bits: 4 });
    expect(narrow.export.products).toBe('dequantized');
    expect(narrow.steps[0]!.method.name).toBe('gptq');
    expect(flags({ for: 'wasm', products: 'qdq' }).export.products).toBe('qdq');
  });

  it('browsers with WebGPU: float16; others are names of a format', () => {
    for (const name of ['browser', 'webgpu']) expect(flags({ for: name }).export.activations).toBe('float16');
    expect(flags({ for: 'node' }).export).toMatchObject({ format: 'onnx', activations: 'float32' });
    for (const name of ['ollama', 'lm-studio', 'llama.cpp'])
      expect(flags({ for: name }).export.format).toBe('gguf');
  });
});

describe('what is slower than its original is said', () => {
  const speed = (prefillTokensPerSecond: number, decodeTokensPerSecond: number) => ({
    prefillTokensPerSecond,
    decodeTokensPerSecond,
  });

  it('by measured speeds, or where none were measured by what products are known for', () => {
    const found = (prompt: number, decode: number) =>
      slowness({ engine: '', original: speed(100, 10), compressed: speed(prompt, decode) }, []);
    expect(found(95, 20)).toBeUndefined();
    expect(found(100, 5)).toBe('Slower than the original: generates at 0.50 times its rate.');
    expect(found(50, 20)).toContain('reads prompts at 0.50');
    const plain = denseValues(new Float32Array(4), 2, 2);
    expect(slowness(undefined, [plain])).toBeUndefined();
    expect(slowness(undefined, [plain, { ...plain, slow: 'it is' }])).toBe(
      'Slower than the original: it is.',
    );
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
