/**
 * Models from the Hugging Face hub: the files asked for, into the cache that every Hugging Face tool shares
 * (blobs by content hash, snapshots of links by commit), each checked against the hash that the hub states. The
 * client is @huggingface/hub; placing the files is done here, because its own way prints to standard output, tells
 * no progress and checks no hash.
 */

import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream, existsSync, readFileSync, statSync } from 'node:fs';
import { copyFile, mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';
import { Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { ReadableStream } from 'node:stream/web';
import type { ListFileEntry } from '@huggingface/hub';
import { downloadFile, getHFHubCachePath, HubApiError, listFiles, modelInfo } from '@huggingface/hub';
import { ExitCode, LapidaryError } from '../base/errors.ts';
import type { Progress } from '../base/progress.ts';
import { silent } from '../base/progress.ts';
import { hubAddress, isOffline } from './hub-id.ts';
import { hubToken } from './hub-token.ts';

export interface SnapshotOptions {
  /** Branch, tag or commit; "main" unless said. */
  readonly revision?: string | undefined;
  /** Hears bytes: done and in all. */
  readonly progress?: Progress | undefined;
  /** Folders at the top whose files are offered as well, where they are there. */
  readonly folders?: readonly string[] | undefined;
  /** Which of the repository's files at the top and in `folders` are needed; may throw to refuse the repository. */
  choose(names: readonly string[]): readonly string[];
}

export interface Snapshot {
  readonly folder: string;
  readonly commit: string;
}

/**
 * Honours the token of Hugging Face's tools (hub-token.ts), HF_ENDPOINT, HF_HUB_OFFLINE, and the cache's place by HF_HUB_CACHE and HF_HOME. Offline, or with
 * no way to the hub, what an earlier download left is used.
 * @throws LapidaryError
 */
export async function downloadSnapshot(id: string, options: SnapshotOptions): Promise<Snapshot> {
  const revision = options.revision ?? 'main';
  if (!/^[\w.][\w./-]*$/.test(revision) || revision.split('/').includes('..')) {
    throw new LapidaryError(
      {
        what: 'not a revision',
        where: revision,
        expected: 'a branch, a tag or a commit',
      },
      ExitCode.usage,
    );
  }
  const cache = join(getHFHubCachePath(), `models--${id.replace('/', '--')}`);
  if (isOffline()) return cached(cache, revision) ?? notCached(id, revision, 'HF_HUB_OFFLINE is set');
  const hub = connection(id);
  let commit: string;
  try {
    commit = checkedCommit(
      (await modelInfo({ ...hub, name: id, revision, additionalFields: ['sha'] })).sha,
      id,
    );
  } catch (cause) {
    if (!isUnreachable(cause)) throw explain(cause, id, revision);
    return cached(cache, revision) ?? notCached(id, revision, `no answer from ${hub.hubUrl}`, cause);
  }
  try {
    const entries = await filesOf(hub, commit, options.folders);
    const wanted = new Set(options.choose([...entries.keys()]));
    const files = [...entries.values()].filter((entry) => wanted.has(entry.path));
    await fetchAll(hub, cache, commit, files, options.progress ?? silent);
  } catch (cause) {
    throw explain(cause, id, revision);
  }
  // The name of the commit is written last, so that offline work finds whole snapshots only.
  if (revision !== commit) {
    const reference = join(cache, 'refs', revision);
    await mkdir(dirname(reference), { recursive: true });
    await writeFile(reference, commit);
  }
  return { folder: join(cache, 'snapshots', commit), commit };
}

interface Connection {
  readonly repo: string;
  readonly hubUrl: string;
  readonly accessToken?: string;
}

function connection(id: string): Connection {
  const accessToken = hubToken();
  return { repo: id, hubUrl: hubAddress(), ...(accessToken === undefined ? {} : { accessToken }) };
}

/** By path: at the top, and in folders of these names. */
async function filesOf(
  hub: Connection,
  commit: string,
  folders: readonly string[] = [],
): Promise<ReadonlyMap<string, ListFileEntry>> {
  const entries = new Map<string, ListFileEntry>();
  const list = async (folder: string, prefix: string, inner: readonly string[]) => {
    const found: string[] = [];
    for await (const { type, path, ...rest } of listFiles({ ...hub, revision: commit, path: folder })) {
      // A path with more in it would be placed elsewhere.
      if (`${prefix}${basename(path)}` !== path) continue;
      if (type === 'file') entries.set(path, { type, path, ...rest });
      else if (type === 'directory' && inner.includes(path)) found.push(path);
    }
    for (const path of found) await list(path, `${path}/`, []);
  };
  await list('', '', folders);
  return entries;
}

async function fetchAll(
  hub: Connection,
  cache: string,
  commit: string,
  files: readonly ListFileEntry[],
  progress: Progress,
): Promise<void> {
  const total = files.reduce((sum, file) => sum + file.size, 0);
  let before = 0;
  for (const file of files) {
    const say = (done: number) =>
      progress({ phase: 'download', done: before + done, total, detail: file.path });
    const link = join(cache, 'snapshots', commit, file.path);
    if (!existsSync(link)) {
      const blob = join(cache, 'blobs', blobName(file));
      await mkdir(dirname(blob), { recursive: true });
      await mkdir(dirname(link), { recursive: true });
      if (!existsSync(blob)) await fetchBlob(hub, commit, file, blob, say);
      await place(blob, link);
    }
    say(file.size);
    before += file.size;
  }
}

/** Downloads one file, going on where an earlier attempt stopped, and keeps it only if its hash is the hub's. */
async function fetchBlob(
  hub: Connection,
  commit: string,
  file: ListFileEntry,
  blob: string,
  say: (done: number) => void,
): Promise<void> {
  const incomplete = `${blob}.incomplete`;
  let start = existsSync(incomplete) ? statSync(incomplete).size : 0;
  if (start > file.size) start = 0;
  if (start < file.size) {
    // Plain HTTP rather than the chunk protocol: a range of it can be asked for, to go on where a download stopped.
    const whole = await downloadFile({ ...hub, revision: commit, path: file.path, xet: false });
    if (!whole) throw new Error(`the hub lists ${file.path} but does not have it`);
    let done = start;
    const count = new Transform({
      transform(chunk: Uint8Array, _encoding, next) {
        done += chunk.byteLength;
        say(done);
        next(null, chunk);
      },
    });
    const body = (start > 0 ? whole.slice(start) : whole).stream() as ReadableStream;
    await pipeline(
      Readable.fromWeb(body),
      count,
      createWriteStream(incomplete, { flags: start > 0 ? 'a' : 'w' }),
    );
  } else if (start === 0) {
    await writeFile(incomplete, '');
  }
  const expected = file.lfs?.oid ?? file.oid;
  const found = await contentHash(incomplete, file);
  if (found !== expected) {
    await rm(incomplete, { force: true });
    throw new LapidaryError(
      {
        what: 'the downloaded file is not what the hub announced',
        where: `${hub.repo}/${file.path}`,
        expected: `hash ${expected}`,
        found,
        fix: 'run again; if it stays so, something between you and the hub changes files',
      },
      ExitCode.system,
    );
  }
  await rename(incomplete, blob);
}

/** sha256 for files in large storage; for the others git's: sha1 over "blob <size>\0" and the bytes. */
async function contentHash(path: string, file: ListFileEntry): Promise<string> {
  const hash = file.lfs ? createHash('sha256') : createHash('sha1').update(`blob ${statSync(path).size}\0`);
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

function blobName(file: ListFileEntry): string {
  const name = file.lfs?.oid ?? file.oid ?? '';
  if (!/^[0-9a-f]{40,64}$/.test(name)) throw new Error(`the hub states no hash for ${file.path}`);
  return name;
}

/** A relative link where the system has them, else a copy. */
async function place(blob: string, link: string): Promise<void> {
  await rm(link, { force: true });
  try {
    await symlink(relative(dirname(link), blob), link);
  } catch {
    await copyFile(blob, link);
  }
}

function cached(cache: string, revision: string): Snapshot | undefined {
  const reference = join(cache, 'refs', revision);
  const commit = existsSync(reference) ? readFileSync(reference, 'utf8').trim() : revision;
  const folder = join(cache, 'snapshots', commit);
  return /^[0-9a-f]{40}$/.test(commit) && existsSync(folder) ? { folder, commit } : undefined;
}

function notCached(id: string, revision: string, found: string, cause?: unknown): never {
  throw new LapidaryError(
    {
      what: `the model is not in the cache, and the hub is out of reach`,
      where: `${id}@${revision}`,
      expected: 'a connection to the hub, or an earlier download in the cache',
      found: cause ? `${found} (${reason(cause)})` : found,
      fix: 'connect once to download it, or give a folder',
      cause,
    },
    ExitCode.system,
  );
}

/** No connection at all, or a hub that is down: the cache may serve instead. */
function isUnreachable(cause: unknown): boolean {
  if (cause instanceof HubApiError) return cause.statusCode >= 500;
  return cause instanceof TypeError;
}

function checkedCommit(commit: unknown, id: string): string {
  if (typeof commit === 'string' && /^[0-9a-f]{40}$/.test(commit)) return commit;
  throw new Error(`the hub names no commit for ${id}`);
}

function explain(cause: unknown, id: string, revision: string): unknown {
  if (cause instanceof LapidaryError) return cause;
  const where = `${id}@${revision}`;
  const code = (cause as NodeJS.ErrnoException | undefined)?.code;
  if (code === 'ENOSPC' || code === 'EACCES' || code === 'EROFS') {
    const fix = 'make room or set HF_HOME to a folder that can be written';
    return new LapidaryError(
      { what: 'the download could not be stored', where, found: code, fix, cause },
      ExitCode.system,
    );
  }
  const status = cause instanceof HubApiError ? cause.statusCode : undefined;
  const known: Record<number, [what: string, fix: string]> = {
    401: [
      'no such model on the hub, or it is private or gated',
      'check the spelling; if it is private or gated, accept its terms on its page and set HF_TOKEN',
    ],
    403: [
      'the hub refuses access to this model',
      "accept its terms on the model's page, then set HF_TOKEN to a token that may read it",
    ],
    404: [
      'no such model or revision on the hub',
      'check the spelling of the id and the revision; is it a local folder? Then give its path',
    ],
    429: ['the hub asks to wait: too many requests', 'try again later, or set HF_TOKEN'],
  };
  const [what, fix] = known[status ?? 0] ?? ['the download failed', 'try again; what was downloaded is kept'];
  const found = status ? `status ${status}: ${reason(cause)}` : reason(cause);
  return new LapidaryError({ what, where, found, fix, cause }, status ? ExitCode.input : ExitCode.system);
}

/** What is behind an error of the client, in a few words. */
export function reason(cause: unknown): string {
  const inner = cause instanceof Error && cause.cause instanceof Error ? cause.cause : cause;
  const text = inner instanceof Error ? inner.message || inner.name : String(inner);
  // The client ends its messages with the address it asked, which may be long.
  return text.split('. URL: ')[0];
}
