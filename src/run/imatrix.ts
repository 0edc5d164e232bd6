/** An importance matrix for llama.cpp out of a model and a text: what llama-imatrix does, through our own graph. */

import { existsSync } from 'node:fs';
import { ExitCode, LapidaryError } from '../base/errors.ts';
import type { Progress } from '../base/progress.ts';
import type { DataOptions } from '../calibrate/data.ts';
import { readDocuments } from '../calibrate/data.ts';
import { renderedTexts } from '../calibrate/documents.ts';
import { collectImatrix } from '../calibrate/imatrix.ts';
import { chunksOf } from '../calibrate/sequences.ts';
import type { SessionOptions } from '../graph/session.ts';
import type { ImatrixForm } from '../io/imatrix/imatrix.ts';
import { writeImatrix } from '../io/imatrix/imatrix.ts';
import { openForCompression } from '../open.ts';

export interface ImatrixOptions
  extends Pick<DataOptions, 'separator' | 'field'>, Pick<SessionOptions, 'device' | 'threads'> {
  /** As of `compress`: text, or chat messages, which go through the model's template. */
  readonly data: string;
  /** The file to write. */
  readonly out: string;
  /** By the file's name without it: the older form where it ends in ".dat". */
  readonly form?: ImatrixForm | undefined;
  /** Replaces a file that is there. */
  readonly overwrite?: boolean | undefined;
  /** Tokens of a chunk; 512 without it, or the model's context where that is shorter. */
  readonly chunkSize?: number | undefined;
  /** Chunks at most; all without it. */
  readonly chunks?: number | undefined;
  /** Collects for the head, too (a tied one's embedding), which is usually better rounded without. */
  readonly processOutput?: boolean | undefined;
  readonly revision?: string | undefined;
  readonly progress?: Progress | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly warn?: ((line: string) => void) | undefined;
}

export interface WrittenImatrix {
  readonly out: string;
  readonly form: ImatrixForm;
  /** Weights in it. */
  readonly entries: number;
  readonly chunks: number;
  /** Tokens of each. */
  readonly chunkSize: number;
}

/**
 * Sums of squared inputs of every linear layer, over a text in chunks of which each begins with BOS where the model's
 * texts do; equal to llama-imatrix's on the same tokens, but for the order of float32 sums.
 * @param location as of `openModel`
 * @throws LapidaryError where the file is there, the text is too short, or llama.cpp has no names for the model
 */
export async function imatrix(
  location: string | undefined,
  { data, out, separator, field, ...options }: ImatrixOptions,
): Promise<WrittenImatrix> {
  const { overwrite = false, chunkSize = 512, processOutput, device, threads, progress, signal } = options;
  const { form = out.toLowerCase().endsWith('.dat') ? 'dat' : 'gguf' } = options;
  if (existsSync(out) && !overwrite) {
    throw new LapidaryError(
      {
        what: 'the file is there already',
        where: out,
        fix: 'choose another name with --out, or --overwrite',
      },
      ExitCode.usage,
    );
  }
  const { model, tokenizer, context } = await openForCompression(location, options);
  const length = options.chunkSize === undefined ? Math.min(chunkSize, context) : chunkSize;
  if (length > context) {
    const fix = `give --chunk-size ${context} or less`;
    throw new LapidaryError(
      {
        what: 'chunks longer than the model can see',
        expected: `at most ${context} tokens`,
        found: `${length}`,
        fix,
      },
      ExitCode.usage,
    );
  }
  const documents = renderedTexts(await readDocuments(data, { separator, field }), tokenizer, data);
  const chunks = chunksOf(documents, tokenizer, { length, count: options.chunks });
  const entries = await collectImatrix(model, chunks, {
    device,
    threads,
    head: processOutput,
    progress,
    signal,
  });
  const made = { entries, datasets: [data], chunks: chunks.length, chunkSize: length };
  await writeImatrix(out, made, form);
  return { out, form, entries: entries.size, chunks: chunks.length, chunkSize: length };
}
