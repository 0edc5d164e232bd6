/**
 * An ONNX model as plain objects: what the writer takes and the reader gives. Field numbers and type codes are those
 * of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
 */

import type { DType, Stored } from '../../base/tensor.ts';

export type OnnxAttribute = number | string | readonly number[] | { readonly float: number };

export interface OnnxNode {
  readonly name: string;
  readonly domain: string;
  readonly type: string;
  /** '' for an optional one that is left out. */
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: Readonly<Record<string, OnnxAttribute>>;
}

/** Bytes of a tensor that lie in another file beside the model's. */
export interface OnnxExternal {
  readonly location: string;
  readonly offset: number;
  readonly length: number;
}

export interface OnnxTensor {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly data: Stored | OnnxExternal;
}

export interface OnnxValue {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly (number | string)[];
}

export interface OnnxModel {
  readonly producer: string;
  readonly irVersion: number;
  readonly opsets: readonly { readonly domain: string; readonly version: number }[];
  readonly graphName: string;
  readonly nodes: readonly OnnxNode[];
  readonly initializers: readonly OnnxTensor[];
  readonly inputs: readonly OnnxValue[];
  readonly outputs: readonly OnnxValue[];
}

export const typeCode: Readonly<Record<DType, number>> = {
  float32: 1,
  uint8: 2,
  int8: 3,
  int16: 5,
  int32: 6,
  int64: 7,
  bool: 9,
  float16: 10,
  float64: 11,
  uint32: 12,
  bfloat16: 16,
  float8e4m3: 17,
  float8e5m2: 19,
  uint4: 21,
  int4: 22,
};

export const attributeCode = { float: 1, int: 2, string: 3, ints: 7 } as const;
