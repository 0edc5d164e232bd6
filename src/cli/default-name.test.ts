import { describe, expect, it } from 'vitest';
import { checkRecipe } from '../recipe/recipe.ts';
import { defaultFolder } from '../run/default-name.ts';
import { recipeInput } from './recipe.ts';

const nameOf = (model: string | undefined, flags: Readonly<Record<string, unknown>> = {}): string =>
  defaultFolder(checkRecipe(recipeInput(model, undefined, (name) => flags[name])));

describe('the folder of a result that nobody named', () => {
  it.each([
    [{ calibration: 'text.jsonl' }, 'm-onnx-gptq-4bit-g32'],
    [{ calibration: 'text.jsonl', for: 'browser' }, 'm-onnx-gptq-4bit-g32-f16'],
    [{ method: 'rtn', cache: 'int8', products: 'qdq' }, 'm-onnx-rtn-4bit-g32-qdq-cache-int8'],
    [{ calibration: 'text.jsonl', for: 'mlx' }, 'm-mlx-gptq-4bit-g64'],
    [{ calibration: 'text.jsonl', for: 'vllm' }, 'm-compressed-tensors-gptq-4bit-g128'],
    [{ method: 'gptq+block-ap' }, 'm-onnx-gptq+block-ap-4bit-g32'],
    [{ method: 'awq+gptq', bits: 3 }, 'm-onnx-awq+gptq-3bit-g32'],
    [{ method: 'rtn', bits: 8, group: -1 }, 'm-onnx-rtn-8bit-rows'],
    [{ format: 'gguf', type: 'Q3_K_M' }, 'm-gguf-ggml-Q3_K_M'],
    [{ method: 'rtn', numbers: 'nf4', group: 64 }, 'm-onnx-rtn-nf4-4bit-g64'],
    [{ method: 'gptq', also: ['last bits=8'] }, 'm-onnx-gptq-4bit-g32-mixed'],
    [{ generatedCalibration: true }, 'm-onnx-gptq-4bit-g32-generated'],
    [{ format: 'gguf', type: 'Q4_K_M', imatrix: 'imatrix.gguf' }, 'm-gguf-ggml-Q4_K_M-imatrix'],
  ])('by %j is %s', (flags, expected) => {
    expect(nameOf('some/where/m', flags)).toBe(expected);
  });

  it('begins with what the model is called', () => {
    expect(nameOf('some/where/m.gguf', { method: 'rtn' })).toMatch(/^m-onnx-/);
    expect(nameOf(undefined)).toMatch(/^pebble-onnx-/);
  });
});
