/** The formats that recipes can name. */

import type { Recipe } from '../recipe.ts';
import { awq } from './awq.ts';
import { compressedTensors } from './compressed-tensors.ts';
import type { Format } from './format.ts';
import { gguf } from './gguf.ts';
import { gptq } from './gptq.ts';
import { mlx } from './mlx.ts';
import { onnx } from './onnx.ts';

export const formats: Readonly<Record<Recipe['export']['format'], Format>> = {
  onnx,
  gguf,
  'compressed-tensors': compressedTensors,
  gptq,
  awq,
  mlx,
};
