/** What a format of quantized checkpoints is to those who open one. */

import type { Encoding } from '../../encodings/encoding.ts';
import type { Json } from '../settings.ts';
import type { MatrixTensors } from './tensors.ts';

/**
 * The encoding of a matrix [out, in] from all tensors "name.<suffix>" but its bias; undefined where it is stored as
 * floats.
 * @throws LapidaryError on tensors that do not agree with the settings or each other; it need not name the matrix
 */
export type ReadMatrix = (name: string, tensors: MatrixTensors) => Encoding | undefined;

export interface QuantizedFormat {
  /** "gptq" */
  readonly name: string;
  /** Whether config.json says that the weights are in this format. */
  matches(json: Json): boolean;
  /** Bits of integers that most weights are; undefined where they are small floats, or nobody says. */
  bits(json: Json): unknown;
  /** Checks the settings; no tensor is looked at. @throws LapidaryError */
  open(json: Json): ReadMatrix;
}
