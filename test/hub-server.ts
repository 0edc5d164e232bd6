/**
 * A hub of its own for tests: it speaks what the real one does for making a model, uploading (preupload, LFS batch, whole
 * or in parts, commit) and downloading, keeps what it is given on the disk, and checks it. Nothing of a client is in it.
 */

import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';

export const tokens = { writer: 'hf_writer', reader: 'hf_reader' } as const;

/** From this size on files are large, and are taken in parts of it. */
export const partBytes = 200_000;

interface Entry {
  readonly oid: string;
  readonly size: number;
  readonly large: boolean;
}

interface Repository {
  readonly isPrivate: boolean;
  /** By branch, the last commit first. */
  readonly branches: Map<
    string,
    { readonly commit: string; readonly message: string; readonly files: Map<string, Entry> }[]
  >;
}

export interface HubServer {
  readonly url: string;
  readonly repositories: ReadonlyMap<string, Repository>;
  /** Every request: "POST /api/repos/create". */
  readonly asked: string[];
  /** Answers in place of the server, where it gives a status. */
  fault: (request: string) => number | undefined;
  /** Called when a request comes. */
  hear: (request: string) => void;
  close(): Promise<void>;
}

const hash = (kind: string, bytes: Uint8Array, before = ''): string =>
  createHash(kind).update(before).update(bytes).digest('hex');

/** @param folder where objects are kept */
export async function startHub(folder: string): Promise<HubServer> {
  mkdirSync(folder, { recursive: true });
  const repositories = new Map<string, Repository>();
  const parts = new Map<string, Map<number, Buffer>>();
  const place = (oid: string) => join(folder, oid);
  const server = createServer((request, response) => {
    void handle(request, response).catch((error) => response.writeHead(500).end(String(error)));
  });
  await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const hub: HubServer = {
    url,
    repositories,
    asked: [],
    fault: () => undefined,
    hear: () => {},
    close: () =>
      new Promise((closed) => {
        server.closeAllConnections();
        server.close(() => closed());
      }),
  };

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname: path } = new URL(request.url!, url);
    const line = `${request.method} ${decodeURIComponent(path)}`;
    hub.asked.push(line);
    hub.hear(line);
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks);
    const json = (status: number, value: unknown, headers = {}) =>
      void response
        .writeHead(status, { 'content-type': 'application/json', ...headers })
        .end(JSON.stringify(value));
    const fault = hub.fault(line);
    if (fault !== undefined) return json(fault, { error: `status ${fault} was asked for` });
    const object = /^\/objects\/([0-9a-f]{64})(?:\/(\d+))?$/.exec(path);
    if (object) return takeObject(object[1]!, object[2], request.method!, body, response);
    // Objects are uploaded to signed addresses; all else asks who writes.
    if (request.method === 'POST') {
      const token = request.headers.authorization?.replace('Bearer ', '');
      if (token === tokens.reader) return json(403, { error: 'you have read access only' });
      if (token !== tokens.writer) return json(401, { error: 'Invalid username or password.' });
    }
    const text = () => JSON.parse(body.toString());
    if (path === '/api/repos/create') {
      const { name, organization, visibility } = text();
      const id = `${organization}/${name}`;
      if (repositories.has(id)) return json(409, { error: 'You already created this model repo' });
      repositories.set(id, { isPrivate: visibility === 'private', branches: new Map([['main', []]]) });
      return json(200, { url: `${url}/${id}`, id });
    }
    const [, id, action, rest = ''] =
      /^\/api\/models\/([^/]+\/[^/]+)\/(branch|preupload|commit|revision|tree)\/(.+)$/.exec(path) ??
      /^\/([^/]+\/[^/.]+)(?:\.git)?\/(info|resolve)\/(.+)$/.exec(path) ??
      [];
    const repository = repositories.get(id ?? '');
    if (!repository) return json(404, { error: 'Repository not found' });
    const [first = '', ...others] = rest.split('/').map(decodeURIComponent);
    const branch = repository.branches.get(first);
    const commits = [...repository.branches.values()].flat();
    const commit = branch?.[0] ?? commits.find((each) => each.commit === first);
    switch (action) {
      case 'branch':
        if (branch) return json(409, { error: 'Reference already exists' });
        repository.branches.set(first, [...(repository.branches.get('main') ?? [])]);
        return json(200, {});
      case 'preupload': {
        if (!branch) return json(404, { error: 'Invalid rev id' });
        const mode = ({ path: file, size }: { path: string; size: number }) => ({
          path: file,
          uploadMode: size >= partBytes || /\.(onnx|safetensors|gguf)$/.test(file) ? 'lfs' : 'regular',
        });
        return json(200, { files: text().files.map(mode) });
      }
      case 'info':
        return json(200, { transfer: 'basic', objects: text().objects.map(actionsFor) });
      case 'commit': {
        if (!branch) return json(404, { error: 'Invalid rev id' });
        const taken = take(body.toString(), commit?.files ?? new Map());
        branch.unshift(taken);
        return json(200, {
          commitOid: taken.commit,
          commitUrl: `${url}/${id}/commit/${taken.commit}`,
          hookOutput: '',
        });
      }
      case 'revision':
        if (!commit) return json(404, { error: 'Invalid rev id' });
        return json(200, {
          _id: '1',
          id,
          sha: commit.commit,
          private: repository.isPrivate,
          lastModified: '2024-01-01T00:00:00Z',
        });
      case 'tree':
        return json(200, listed(commit?.files ?? new Map(), others.join('/')));
      default: {
        const entry = commit?.files.get(others.join('/'));
        if (!entry) return json(404, { error: 'Entry not found' });
        return sendFile(readFileSync(place(entry.oid)), request.headers.range, response);
      }
    }
  }

  /** A whole object, a part of one, or the word that all parts are there. */
  function takeObject(
    oid: string,
    part: string | undefined,
    method: string,
    body: Buffer,
    response: ServerResponse,
  ) {
    if (method === 'PUT' && part !== undefined) {
      parts.set(oid, (parts.get(oid) ?? new Map()).set(Number(part), body));
      return void response.writeHead(200, { etag: hash('md5', body) }).end();
    }
    const all = [...(parts.get(oid) ?? [])].sort(([a], [b]) => a - b).map(([, bytes]) => bytes);
    const bytes = method === 'PUT' ? body : Buffer.concat(all);
    if (hash('sha256', bytes) !== oid) return void response.writeHead(400).end('other bytes than announced');
    if (method === 'POST') {
      const { parts: told } = JSON.parse(body.toString()) as { parts: { etag: string }[] };
      const right = told.every(({ etag }, index) => etag === hash('md5', all[index]!));
      if (!right || told.length !== all.length) return void response.writeHead(400).end('other parts');
    }
    writeFileSync(place(oid), bytes);
    response.writeHead(200).end();
  }

  function actionsFor({ oid, size }: { oid: string; size: number }) {
    if (existsSync(place(oid))) return { oid, size };
    const href = `${url}/objects/${oid}`;
    if (size <= partBytes) return { oid, size, actions: { upload: { href } } };
    const count = Math.ceil(size / partBytes);
    const addresses = Array.from({ length: count }, (_, index) => [
      String(index + 1).padStart(5, '0'),
      `${href}/${index + 1}`,
    ]);
    const header = { chunk_size: String(partBytes), ...Object.fromEntries(addresses) };
    return { oid, size, actions: { upload: { href, header } } };
  }

  function take(lines: string, before: ReadonlyMap<string, Entry>) {
    const files = new Map(before);
    let message = '';
    for (const { key, value } of lines.split('\n').map((line) => JSON.parse(line))) {
      if (key === 'header') message = value.summary;
      else if (key === 'lfsFile') {
        if (!existsSync(place(value.oid))) throw new Error(`${value.path} was never uploaded`);
        files.set(value.path, { oid: value.oid, size: value.size, large: true });
      } else if (key === 'file') {
        const bytes = Buffer.from(value.content, value.encoding);
        const oid = hash('sha1', bytes, `blob ${bytes.length}\0`);
        writeFileSync(place(oid), bytes);
        files.set(value.path, { oid, size: bytes.length, large: false });
      }
    }
    const commit = hash('sha1', Buffer.from(lines));
    return { commit, message, files };
  }

  return hub;
}

/** One level of a tree, as the hub lists it. */
function listed(files: ReadonlyMap<string, Entry>, folder: string) {
  const prefix = folder === '' ? '' : `${folder}/`;
  const inside = [...files].filter(([name]) => name.startsWith(prefix));
  const folders = new Set(
    inside
      .map(([name]) => name.slice(prefix.length).split('/'))
      .flatMap((parts) => (parts.length > 1 ? [parts[0]!] : [])),
  );
  return [
    ...inside
      .filter(([name]) => !name.slice(prefix.length).includes('/'))
      .map(([path, { oid, size, large }]) => ({
        type: 'file',
        path,
        size,
        oid: large ? '0'.repeat(40) : oid,
        ...(large ? { lfs: { oid, size, pointerSize: 130 } } : {}),
      })),
    ...[...folders].map((name) => ({ type: 'directory', path: prefix + name, size: 0, oid: '0'.repeat(40) })),
  ];
}

function sendFile(bytes: Buffer, range: string | undefined, response: ServerResponse): void {
  const [from, to] = /^bytes=(\d+)-(\d+)$/
    .exec(range ?? '')
    ?.slice(1)
    .map(Number) ?? [0, bytes.length - 1];
  response.writeHead(range ? 206 : 200, {
    etag: '"x"',
    'content-length': to! - from! + 1,
    ...(range ? { 'content-range': `bytes ${from}-${to}/${bytes.length}` } : {}),
  });
  response.end(bytes.subarray(from, to! + 1));
}
