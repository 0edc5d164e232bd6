/**
 * The one table of operators: for each its ONNX node, the rule for its outputs' types and shapes, and its gradient
 * or the reason why it has none. Models are written with the functions that stand beside the definitions.
 */

import type { OpDefinition } from './ops/definition.ts';
import type { ElementwiseName } from './ops/elementwise.ts';
import { elementwise } from './ops/elementwise.ts';
import type { IndexingName } from './ops/indexing.ts';
import { indexing } from './ops/indexing.ts';
import type { LayoutName } from './ops/layout.ts';
import { layout } from './ops/layout.ts';
import type { NormName } from './ops/norms.ts';
import { norms } from './ops/norms.ts';
import type { ProductName } from './ops/products.ts';
import { products } from './ops/products.ts';
import type { QuantizedName } from './ops/quantized.ts';
import { quantized } from './ops/quantized.ts';
import type { ReduceName } from './ops/reduce.ts';
import { reductions } from './ops/reduce.ts';

export type OpName =
  ElementwiseName | ReduceName | LayoutName | IndexingName | ProductName | NormName | QuantizedName;

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
export type { OpDefinition } from './ops/definition.ts';
export * from './ops/functions.ts';
export * from './ops/functions-stored.ts';
