/** What a result is called where nobody names it: by all that tells it from others of the same model. */

import { basename, resolve } from 'node:path';
import { shipped } from '../open.ts';
import type { Recipe } from '../recipe/recipe.ts';
import type { Step } from '../recipe/steps.ts';
import { isCompression, methodsOf } from '../recipe/steps.ts';

/** Other options for some matrices of the blocks. */
const isForSome = (step: Step): boolean =>
  isCompression(step) && step.targets.some((target) => !['blocks', 'embeddings'].includes(target));

/** "my-model-onnx-gptq+block-ap-4bit-g32", "my-model-gguf-ggml-Q4_K_M" */
export function defaultFolder({
  model = shipped.name,
  steps,
  calibration,
  export: { format, activations, products, cache },
}: Recipe): string {
  const name = basename(resolve(model), '.gguf');
  const { type, numbers, bits, group } = steps.find(isCompression)?.options ?? {};
  const parts = [
    name,
    format,
    methodsOf(steps).join('+'),
    type,
    numbers === 'integers' ? undefined : numbers,
    type === undefined && bits !== undefined ? `${bits}bit` : undefined,
    typeof group !== 'number' ? undefined : group === -1 ? 'rows' : `g${group}`,
    activations === 'float16' ? 'f16' : undefined,
    products === 'matmulnbits' ? undefined : products,
    cache === 'floats' ? undefined : `cache-${cache}`,
    steps.some(isForSome) ? 'mixed' : undefined,
    calibration.generated ? 'generated' : undefined,
    calibration.imatrix === undefined ? undefined : 'imatrix',
  ];
  return parts.filter((part) => part !== undefined).join('-');
}

/** "my-model-onnx-q4-q8-fp16" */
export const folderOfTypes = (
  { model = shipped.name, export: { format } }: Recipe,
  types: readonly string[],
): string => [basename(resolve(model), '.gguf'), format, ...types].join('-');
