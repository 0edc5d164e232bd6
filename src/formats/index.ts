/** The formats that recipes can name. */

import type { Recipe } from '../recipe/recipe.ts';
import { awq } from './awq.ts';
import { compressedTensors } from './compressed-tensors.ts';
import type { Format } from './format.ts';
import { gguf } from './gguf.ts';
import { gptq } from './gptq.ts';
import { mlx } from './mlx.ts';
import { onnx } from './onnx.ts';
import type { Recommendation, Wanted } from './recommend.ts';

/** What a format recommends for who names no method: a step of a recipe, and why. */
export const recommend = (format: Recipe['export']['format'], wanted: Wanted): Recommendation =>
  formats[format].recommend(wanted);

export const formats: Readonly<Record<Recipe['export']['format'], Format>> = {
  onnx,
  gguf,
  'compressed-tensors': compressedTensors,
  gptq,
  awq,
  mlx,
};
