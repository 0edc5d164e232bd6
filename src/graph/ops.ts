/**
 * The one table of operators: for each its ONNX node, the rule for its outputs' types and shapes, and its gradient
 * or the reason why it has none. Models are written with the functions that stand beside the definitions.
 */

import type { OpDefinition } from './ops/definition.ts';
import { elementwise } from './ops/elementwise.ts';
import { indexing } from './ops/indexing.ts';
import { layout } from './ops/layout.ts';
import type { OpName } from './ops/names.ts';
import { norms } from './ops/norms.ts';
import { products } from './ops/products.ts';
import { quantized } from './ops/quantized.ts';
import { reductions } from './ops/reduce.ts';

export const table: Readonly<Record<OpName, OpDefinition>> = {
  ...elementwise,
  ...reductions,
  ...layout,
  ...indexing,
  ...products,
  ...norms,
  ...quantized,
};

export * from './ops/constants.ts';
export type { OpName } from './ops/names.ts';
export type { OpDefinition } from './ops/definition.ts';
export * from './ops/functions.ts';
export * from './ops/functions-stored.ts';
