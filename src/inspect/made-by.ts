/** What a model was made by and from: the report that Lapidary leaves beside what it writes, or the name in an ONNX file. */

import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { LapidaryError } from '../base/errors.ts';
import { reportsIn } from '../report/files.ts';
import type { ReportData } from '../report/schema.ts';
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

/**
 * @param folder where reports would be; those that cannot be read say nothing
 * @param file the one that was looked into, where the folder has several types
 */
export function madeBy(
  folder: string | undefined,
  file: string | undefined,
  producer: string | undefined,
): MadeBy | undefined {
  const reports = folder === undefined ? [] : reportsIn(folder).flatMap(readable);
  const isOf = ({ files }: ReportData) => files.some(({ path }) => basename(path) === file);
  const report = reports.find(isOf) ?? reports[0];
  if (!report) return producer === undefined ? undefined : { producer };
  const { model, target, summary, reproduction } = report;
  const { lapidary: version, command } = Object.fromEntries(reproduction);
  return { producer: 'lapidary', version, model, target, summary, command };
}

function readable(path: string): ReportData[] {
  try {
    return [parseReport(readFileSync(path, 'utf8'), path)];
  } catch (error) {
    if (!(error instanceof LapidaryError)) throw error;
    return [];
  }
}
