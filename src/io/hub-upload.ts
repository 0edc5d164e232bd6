/**
 * Files of this machine into a model's repository on the hub, in one commit. The client is @huggingface/hub; it hashes,
 * sends large files to large storage (in parts, where the hub asks for these) and commits. Told here besides: how many
 * bytes are on their way, and what to do about a refusal.
 */

import { openAsBlob } from 'node:fs';
import { createBranch, createRepo, HubApiError, uploadFilesWithProgress } from '@huggingface/hub';
import { ExitCode, LapidaryError } from '../base/errors.ts';
import type { Progress } from '../base/progress.ts';
import { silent } from '../base/progress.ts';
import { hubAddress, isOffline } from './hub-id.ts';
import { reason } from './hub.ts';
import { hubToken } from './hub-token.ts';

export interface UploadFile {
  /** In the repository: "onnx/model_q4.onnx". */
  readonly path: string;
  /** On this machine. */
  readonly file: string;
  readonly bytes: number;
}

export interface UploadOptions {
  /** A branch; "main" without it. */
  readonly revision?: string | undefined;
  /** Of the commit. */
  readonly message: string;
  /** Makes the repository, and the branch, where they are not there. */
  readonly create?: boolean | undefined;
  /** Of a repository that is made: only its owners see it. */
  readonly private?: boolean | undefined;
  /** In place of those of the environment. */
  readonly token?: string | undefined;
  /** Hears bytes: hashed, then sent. */
  readonly progress?: Progress | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface Uploaded {
  /** In hexadecimal. */
  readonly commit: string;
  /** Of the model's page. */
  readonly url: string;
}

/**
 * Honours HF_ENDPOINT and HF_HUB_OFFLINE.
 * @param id "org/name"
 * @throws LapidaryError where the hub refuses (input), or is out of reach (system)
 */
export async function uploadToHub(
  id: string,
  files: readonly UploadFile[],
  options: UploadOptions,
): Promise<Uploaded> {
  const { revision = 'main', message, signal, progress = silent } = options;
  const hubUrl = hubAddress();
  if (isOffline()) throw outOfReach(id, 'HF_HUB_OFFLINE is set');
  const accessToken = hubToken(options.token);
  if (accessToken === undefined) throw noToken(id);
  const hub = { repo: id, hubUrl, accessToken };
  try {
    if (options.create) await create(hub, revision, options.private);
    signal?.throwIfAborted();
    const meter = new Meter(files, progress);
    const content = await Promise.all(
      files.map(async ({ path, file }) => ({
        path,
        content: new MeteredBlob(await openAsBlob(file), (bytes) => meter.read(path, bytes)),
      })),
    );
    const events = uploadFilesWithProgress({
      ...hub,
      branch: revision,
      files: content,
      commitTitle: message,
      // Plain HTTP, as for downloads: of it bytes can be counted.
      useXet: false,
      ...(signal ? { abortSignal: signal } : {}),
    });
    for (let event = await events.next(); ; event = await events.next()) {
      if (event.done) {
        meter.finish();
        return { commit: event.value!.commit.oid, url: `${hubUrl}/${id}` };
      }
      if (event.value.event === 'fileProgress') meter.hear(event.value);
    }
  } catch (cause) {
    signal?.throwIfAborted();
    throw explain(cause, id, revision, options.create ?? false);
  }
}

interface Connection {
  readonly repo: string;
  readonly hubUrl: string;
  readonly accessToken: string;
}

/** What is there already stays as it is. */
async function create(hub: Connection, revision: string, isPrivate: boolean | undefined): Promise<void> {
  await unlessThere(() => createRepo({ ...hub, ...(isPrivate ? { visibility: 'private' } : {}) }));
  if (revision !== 'main') await unlessThere(() => createBranch({ ...hub, branch: revision }));
}

async function unlessThere(make: () => Promise<unknown>): Promise<void> {
  try {
    await make();
  } catch (error) {
    if (!(error instanceof HubApiError) || error.statusCode !== 409) throw error;
  }
}

/** Bytes of all files together, in the phase that they are in. */
class Meter {
  readonly #sizes: ReadonlyMap<string, number>;
  readonly #progress: Progress;
  readonly #hashed = new Map<string, number>();
  readonly #sent = new Map<string, number>();

  constructor(files: readonly UploadFile[], progress: Progress) {
    this.#sizes = new Map(files.map(({ path, bytes }) => [path, bytes]));
    this.#progress = progress;
  }

  hear({ path, progress, state }: { path: string; progress: number; state: string }): void {
    const bytes = progress * (this.#sizes.get(path) ?? 0);
    const phase = state === 'hashing' ? this.#hashed : this.#sent;
    phase.set(path, Math.max(bytes, phase.get(path) ?? 0));
    this.#say(state === 'hashing' ? 'hash' : 'upload', phase, path);
  }

  /** Bytes of a file that were read: to be sent, once it was said that they are. */
  read(path: string, bytes: number): void {
    const before = this.#sent.get(path);
    if (before === undefined) return;
    this.#sent.set(path, Math.min(before + bytes, this.#sizes.get(path) ?? 0));
    this.#say('upload', this.#sent, path);
  }

  finish(): void {
    const total = this.#total();
    this.#progress({ phase: 'upload', done: total, total });
  }

  #total = (): number => [...this.#sizes.values()].reduce((sum, bytes) => sum + bytes, 0);

  #say(phase: string, bytes: ReadonlyMap<string, number>, detail: string): void {
    const done = [...bytes.values()].reduce((sum, each) => sum + each, 0);
    this.#progress({ phase, done, total: this.#total(), detail });
  }
}

/** A file that tells how much of it is read; fetch and the client read it as they do any blob. */
class MeteredBlob extends Blob {
  override readonly size: number;
  readonly #inner: Blob;
  readonly #read: (bytes: number) => void;

  constructor(inner: Blob, read: (bytes: number) => void) {
    super([]);
    this.size = inner.size;
    this.#inner = inner;
    this.#read = read;
  }

  override slice(start?: number, end?: number, type?: string): Blob {
    return new MeteredBlob(this.#inner.slice(start, end, type), this.#read);
  }

  override async arrayBuffer(): Promise<ArrayBuffer> {
    const bytes = await this.#inner.arrayBuffer();
    this.#read(bytes.byteLength);
    return bytes;
  }

  override async text(): Promise<string> {
    return new TextDecoder().decode(await this.arrayBuffer());
  }

  override stream(): ReturnType<Blob['stream']> {
    const counted = new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>({
      transform: (chunk, controller) => {
        this.#read(chunk.byteLength);
        controller.enqueue(chunk);
      },
    });
    return this.#inner.stream().pipeThrough(counted) as ReturnType<Blob['stream']>;
  }
}

function noToken(id: string): LapidaryError {
  return new LapidaryError(
    {
      what: 'no token of the hub',
      where: id,
      expected: 'one that may write, in HF_TOKEN, --token, or as hf auth login leaves it',
      fix: 'make one at https://huggingface.co/settings/tokens, then: export HF_TOKEN=hf_...',
    },
    ExitCode.usage,
  );
}

const outOfReach = (id: string, found: string, cause?: unknown): LapidaryError =>
  new LapidaryError(
    {
      what: 'the hub is out of reach',
      where: `${hubAddress()}, ${id}`,
      expected: 'a connection to the hub',
      found,
      fix: 'push again when there is one; nothing was changed there',
      cause,
    },
    ExitCode.system,
  );

function explain(cause: unknown, id: string, revision: string, creates: boolean): unknown {
  if (cause instanceof LapidaryError) return cause;
  if (!(cause instanceof HubApiError)) return outOfReach(id, reason(cause), cause);
  const { statusCode: status } = cause;
  const known: Record<number, [what: string, fix: string]> = {
    401: [
      'the hub does not know the token, or lets it see no such model',
      'make one that may write at https://huggingface.co/settings/tokens and set HF_TOKEN; check the spelling of the id',
    ],
    403: [
      'the token may not write there',
      'use a token with write access to this organization or user, or another id',
    ],
    404: [
      creates ? 'no such user or organization' : 'no such model or branch on the hub',
      creates ? 'check the spelling of the id' : 'add --create to make it, or check the spelling',
    ],
    413: ['the hub takes no files of this size', 'split the weights, or ask the hub for more room'],
    429: ['the hub asks to wait: too many requests', 'try again later'],
  };
  const [what, fix] = known[status] ?? [
    'the hub refuses the upload',
    'try again later; nothing was changed there',
  ];
  return new LapidaryError(
    { what, where: `${id}@${revision}`, found: `status ${status}: ${reason(cause)}`, fix, cause },
    status >= 500 || status === 429 ? ExitCode.system : ExitCode.input,
  );
}
