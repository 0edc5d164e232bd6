/** The formats that recipes can name. */

import type { Recipe } from '../recipe.ts';
import type { Format } from './format.ts';
import { gguf } from './gguf.ts';
import { onnx } from './onnx.ts';

export const formats: Readonly<Record<Recipe['export']['format'], Format>> = { onnx, gguf };
