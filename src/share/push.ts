/** A result onto the hub: which of a folder's files are the result, and whether it is whole. */

import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { ExitCode, LapidaryError } from '../base/errors.ts';
import type { Progress } from '../base/progress.ts';
import { total } from '../base/total.ts';
import { isHubId } from '../io/hub-id.ts';
import type { UploadFile } from '../io/hub-upload.ts';
import { attempt } from '../io/system-error.ts';
import { reportsIn } from '../report/files.ts';
import { parseReport } from '../report/schema.ts';

export interface PushOptions {
  /** A branch; "main" without it. */
  readonly revision?: string | undefined;
  /** Of the commit; without it what was done, from the report. */
  readonly message?: string | undefined;
  /** Makes the repository, and the branch, where they are not there. */
  readonly create?: boolean | undefined;
  /** Of a repository that is made. */
  readonly private?: boolean | undefined;
  readonly token?: string | undefined;
  /** Takes a folder that is no result of Lapidary's, too. */
  readonly any?: boolean | undefined;
  /** Says what would be pushed, and asks nobody. */
  readonly dryRun?: boolean | undefined;
  readonly progress?: Progress | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface Pushed {
  readonly repository: string;
  readonly revision: string;
  readonly files: readonly { readonly path: string; readonly bytes: number }[];
  /** Of all files. */
  readonly bytes: number;
  /** Missing after a dry run. */
  readonly commit?: string | undefined;
  /** Of the model's page; missing after a dry run. */
  readonly url?: string | undefined;
}

/**
 * Uploads a result folder as `org/name`, in one commit. What begins with a dot (journals, half-written files) stays here.
 * @throws LapidaryError on a folder that is no whole result, and on whatever the hub refuses
 */
export async function push(folder: string, id: string, options: PushOptions = {}): Promise<Pushed> {
  if (!isHubId(id)) {
    throw new LapidaryError(
      { what: 'not a name on the hub', where: id, expected: 'org/name or user/name' },
      ExitCode.usage,
    );
  }
  const { any = false, dryRun = false, revision = 'main' } = options;
  const files = filesOf(folder);
  const summary = any ? undefined : checkWhole(folder, files);
  const plain = files.map(({ path, bytes }) => ({ path, bytes }));
  const bytes = total(files.map((file) => file.bytes));
  const pushed = { repository: id, revision, files: plain, bytes };
  if (dryRun) return pushed;
  const message = options.message ?? (summary === undefined ? 'Upload' : `Lapidary: ${summary}`);
  const { uploadToHub } = await import('../io/hub-upload.ts');
  return { ...pushed, ...(await uploadToHub(id, files, { ...options, message })) };
}

function filesOf(folder: string): UploadFile[] {
  if (!existsSync(folder) || !statSync(folder).isDirectory()) {
    throw new LapidaryError({
      what: 'no such folder',
      where: folder,
      expected: 'a folder that lapidary compress wrote',
    });
  }
  const inside = attempt(folder, () => readdirSync(folder, { recursive: true, withFileTypes: true }));
  return inside
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name))
    .map((file) => ({
      path: file.slice(join(folder, '/').length).replaceAll('\\', '/'),
      file,
      bytes: statSync(file).size,
    }))
    .filter(({ path }) => !path.split('/').some((part) => part.startsWith('.')))
    .sort((a, b) => (a.path < b.path ? -1 : 1));
}

/** A written file: itself, with data beside it, or, of an index, the shards that it names the folder of. */
function isPartOf(path: string, written: string): boolean {
  const index = /^(.*)\.safetensors\.index\.json$/.exec(written);
  if (index) return path === written || (path.startsWith(`${index[1]}-`) && path.endsWith('.safetensors'));
  return path === written || path.startsWith(`${written}_data`);
}

/** @returns what was done, in one line. @throws LapidaryError where report.json is missing, or names files that are not there as they were written */
function checkWhole(folder: string, files: readonly UploadFile[]): string {
  const reports = reportsIn(folder).map((path) => parseReport(readFileSync(path, 'utf8'), path));
  if (reports.length === 0) {
    throw new LapidaryError({
      what: 'this folder is no result of lapidary compress',
      where: folder,
      expected: 'report.json beside the model',
      found: files.length === 0 ? 'an empty folder' : `${files.length} files without it`,
      fix: 'give the folder that compress wrote, or add --any to push this one as it is',
    });
  }
  for (const written of reports.flatMap((report) => report.files)) {
    const parts = files.filter((file) => isPartOf(file.path, written.path));
    const found = total(parts.map(({ bytes }) => bytes));
    if (found === written.bytes) continue;
    throw new LapidaryError({
      what: 'the result is not whole',
      where: join(folder, written.path),
      expected: `${written.bytes} bytes, as its report says`,
      found: parts.length === 0 ? 'no such file' : `${found} bytes`,
      fix: 'compress again, or add --any to push the folder as it is',
    });
  }
  const types = reports.flatMap(({ files }) => files.map(({ type }) => type));
  return reports.length > 1 ? types.join(', ') : reports[0]!.summary.split('. ')[0]!;
}
