/** The names that transformers.js knows ONNX files by, and what config.json tells it to load. Checked against 4.3.1. */

import { z } from 'zod';

/** By `dtype`. */
export const fileNames = {
  fp32: 'model.onnx',
  fp16: 'model_fp16.onnx',
  q8: 'model_quantized.onnx',
  q4: 'model_q4.onnx',
  q4f16: 'model_q4f16.onnx',
  q2: 'model_q2.onnx',
  q2f16: 'model_q2f16.onnx',
  q1: 'model_q1.onnx',
  q1f16: 'model_q1f16.onnx',
} as const;

export type FileType = keyof typeof fileNames;

const loading = z.object({
  dtype: z.enum(Object.keys(fileNames) as FileType[]),
  /** Number of external files, by the model's file name. */
  use_external_data_format: z.record(z.string(), z.number()).optional(),
});

export type Loading = z.output<typeof loading>;

/** What config.json says of loading; undefined where it says nothing that is known here. */
export const loadingOf = (config: Readonly<Record<string, unknown>>): Loading | undefined =>
  loading.safeParse(config['transformers.js_config']).data;

/** The file that is loaded where nobody says which; undefined where config.json does not say. */
export function defaultFile(config: Readonly<Record<string, unknown>>): string | undefined {
  const found = loadingOf(config);
  return found && fileNames[found.dtype];
}
