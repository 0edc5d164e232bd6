/** One line of a listing of weights. */

/** One matrix or vector, whatever it is stored as: codes, scales and zero points are one. Keys as in report.json. */
export interface InspectedTensor {
  /** Of a matrix that is understood here without ".weight"; else as the file has it. */
  readonly name: string;
  /** The number of its layer; missing outside of all. */
  readonly layer?: number | undefined;
  /** Of the weights, not of the codes: a matrix is [out, in] where nothing else is said by the file. */
  readonly shape: readonly number[];
  /** "bfloat16", "Q4_K", "4-bit, group 32, zero points" */
  readonly label: string;
  readonly parameters: number;
  readonly bytes: number;
  /** What is stored for it, where that is more than one tensor: their names, or what these end with. */
  readonly parts?: readonly string[] | undefined;
}
