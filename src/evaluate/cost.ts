/**
 * What an exported ONNX file costs before it runs: bytes on disk, parameters, bits a weight and multiply-adds. (A model in
 * memory: models/size.ts counts the same way.)
 */

import { statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { readOnnx } from '../io/onnx/reader.ts';
import { storedWeights } from './onnx-weights.ts';

export interface Cost {
  /** Of all files that the model needs to run: the .onnx file and its external data. */
  readonly bytes: number;
  /** Weights of matrices, norms and biases; tied ones once, however they are encoded. */
  readonly parameters: number;
  /** Bits stored for each parameter, scales and zero points included. */
  readonly bitsPerWeight: number;
  /** Of the matrix products with weights that one token passes through, the head included. */
  readonly multiplyAdds: number;
}

/** @throws LapidaryError on a file that is not ONNX */
export function fileCost(path: string): Cost {
  const model = readOnnx(path);
  const { weights, multiplyAdds } = storedWeights(model);
  const external = new Set<string>();
  for (const { data } of model.initializers) if ('location' in data) external.add(data.location);
  let bytes = statSync(path).size;
  for (const location of external) bytes += statSync(join(dirname(path), location)).size;
  const sum = (value: (weight: (typeof weights)[number]) => number) =>
    weights.reduce((total, weight) => total + value(weight), 0);
  const parameters = sum((weight) => weight.parameters);
  return { bytes, parameters, bitsPerWeight: (8 * sum((weight) => weight.bytes)) / parameters, multiplyAdds };
}
