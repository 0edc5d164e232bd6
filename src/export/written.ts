/** A file that was written, and how it was checked, as reports tell it. */

import type { Verification } from './verify.ts';

export interface WrittenFile {
  /** Relative to the folder: "onnx/model_q4.onnx". */
  readonly path: string;
  /** As its users name it: "q4", "Q4_K_M". */
  readonly type: string;
  /** With external data. */
  readonly bytes: number;
  /** Where browsers run it at its rate: on the GPU alone, or there and in WebAssembly; undefined where they do not run it. */
  readonly browsers?: 'gpu' | 'all' | undefined;
}

/** A comparison of the written file with the model in memory. */
export interface Check extends Verification {
  /** What loaded the file: "ONNX Runtime 1.30.0". */
  readonly engine: string;
}
