/** What a model was made by and from: the report that Lapidary leaves beside what it writes, or the name in an ONNX file. */

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { LapidaryError } from '../base/errors.ts';
import { parseReport } from '../report/schema.ts';

export interface MadeBy {
  /** "lapidary", or what an ONNX file says of its maker. */
  readonly producer: string;
  readonly version?: string | undefined;
  /** The original, as the run that made it was given it. */
  readonly model?: string | undefined;
  /** "ONNX for transformers.js, q4" */
  readonly target?: string | undefined;
  /** What was done, in one line. */
  readonly summary?: string | undefined;
  /** What makes it again. */
  readonly command?: string | undefined;
}

/** @param folder where report.json would be; one that cannot be read says nothing */
export function madeBy(folder: string | undefined, producer: string | undefined): MadeBy | undefined {
  const path = folder === undefined ? undefined : join(folder, 'report.json');
  if (path !== undefined && existsSync(path)) {
    try {
      const { model, target, summary, reproduction } = parseReport(readFileSync(path, 'utf8'), path);
      const { lapidary: version, command } = Object.fromEntries(reproduction);
      return { producer: 'lapidary', version, model, target, summary, command };
    } catch (error) {
      if (!(error instanceof LapidaryError)) throw error;
    }
  }
  return producer === undefined ? undefined : { producer };
}
