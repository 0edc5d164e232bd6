import { describe, expect, it } from 'vitest';
import { checkRecipe } from '../recipe/recipe.ts';
import { recipeInput } from './recipe.ts';

describe('engines that --for names', () => {
  const flags = (values: Readonly<Record<string, unknown>>) =>
    checkRecipe(recipeInput(undefined, undefined, (name) => values[name]));

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

  it('are known however they are written', () => {
    for (const [name, format] of [
      ['LM Studio', 'gguf'],
      ['llamacpp', 'gguf'],
      ['Ollama', 'gguf'],
      ['Transformers.js', 'onnx'],
      ['onnxruntime-genai', 'onnx'],
      ['vLLM', 'compressed-tensors'],
      ['mlx_lm', 'mlx'],
    ])
      expect(flags({ for: name }).export.format, name).toBe(format);
  });

  it('are told by the nearest name where there is none', () => {
    expect(() => flags({ for: 'olama' })).toThrow('did you mean "ollama"?');
    expect(() => flags({ for: 'tensorrt' })).not.toThrow('did you mean');
  });

  it('run other formats than the one that they are recommended', () => {
    for (const format of ['gptq', 'awq']) expect(flags({ for: 'vllm', format }).export.format).toBe(format);
    expect(() => flags({ for: 'vllm', format: 'mlx' })).toThrow(
      /vllm does not run MLX(.|\n)*compressed-tensors or gptq or awq/,
    );
  });
});
