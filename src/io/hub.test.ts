import { createHash } from 'node:crypto';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ExitCode, LapidaryError } from '../base/errors.ts';
import type { ProgressEvent } from '../base/progress.ts';
import { stored } from '../base/tensor.ts';
import { openCheckpoint } from './checkpoint.ts';
import { isHubId, withoutAddress } from './hub-id.ts';
import { writeSafetensors } from './safetensors/write.ts';

const commit = 'a1'.repeat(20);
const root = mkdtempSync(join(tmpdir(), 'lapidary-hub-'));
const repository = new Map<string, Buffer>();
const weights = Float32Array.from({ length: 50_000 }, (_, i) => Math.sin(i));

/** What the server was asked, and how it misbehaves in the test at hand. */
let asked: { path: string; range?: string; token?: string }[] = [];
let fault: (path: string, response: ServerResponse) => boolean = () => false;
let server: Server;

/** The hub's routes that a download uses, for the model org/tiny. */
function hub(request: IncomingMessage, response: ServerResponse): unknown {
  const path = new URL(request.url ?? '', 'http://hub').pathname;
  const range = request.headers.range;
  asked.push({
    path,
    ...(range ? { range } : {}),
    ...(request.headers.authorization ? { token: request.headers.authorization } : {}),
  });
  if (fault(path, response)) return undefined;
  const json = (status: number, value: unknown) => {
    return response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
  };
  const revision = /^\/api\/models\/org\/tiny\/revision\/(.+)$/.exec(path)?.[1];
  if (revision && [commit, 'main', 'refs/pr/1'].includes(decodeURIComponent(revision))) {
    return json(200, {
      _id: '1',
      id: 'org/tiny',
      sha: commit,
      private: false,
      lastModified: '2024-01-01T00:00:00Z',
    });
  }
  const [, tree] = path.split(`/api/models/org/tiny/tree/${commit}`);
  if (tree !== undefined) {
    const prefix = tree === '' ? '' : `${tree.slice(1)}/`;
    const inside = [...repository].filter(([name]) => name.startsWith(prefix));
    const files = inside.filter(([name]) => !name.slice(prefix.length).includes('/'));
    const folders = new Set(inside.flatMap(([name]) => (prefix === '' ? name.split('/').slice(0, -1) : [])));
    return json(200, [
      ...files.map(([name, bytes]) => listed(name, bytes)),
      ...[...folders].map((name) => ({ type: 'directory', path: name, size: 0, oid: '0'.repeat(40) })),
    ]);
  }
  const bytes = repository.get(path.split(`/org/tiny/resolve/${commit}/`)[1] ?? '');
  if (!bytes) return json(404, { error: 'Repository not found' });
  const [from, to] = /^bytes=(\d+)-(\d+)$/
    .exec(range ?? '')
    ?.slice(1)
    .map(Number) ?? [0, bytes.length - 1];
  response.writeHead(range ? 206 : 200, {
    etag: '"x"',
    'content-length': to - from + 1,
    ...(range ? { 'content-range': `bytes ${from}-${to}/${bytes.length}` } : {}),
  });
  return response.end(bytes.subarray(from, to + 1));
}

function listed(path: string, bytes: Buffer) {
  const oid = createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex');
  const large = {
    lfs: { oid: createHash('sha256').update(bytes).digest('hex'), size: bytes.length, pointerSize: 130 },
  };
  return { type: 'file', path, size: bytes.length, oid, ...(path.endsWith('.safetensors') ? large : {}) };
}

const environment = [
  'HF_TOKEN',
  'HF_HUB_CACHE',
  'HF_HOME',
  'HF_ENDPOINT',
  'HF_HUB_OFFLINE',
  'HUGGINGFACE_HUB_CACHE',
];
const before = environment.map((name) => [name, process.env[name]] as const);

beforeAll(async () => {
  const file = join(root, 'model.safetensors');
  await writeSafetensors(file, new Map([['w', stored('float32', [50_000], weights)]]));
  repository.set('config.json', Buffer.from('{"model_type":"llama"}'));
  repository.set('model.safetensors', readFileSync(file));
  repository.set('tokenizer.json', Buffer.from('{}'));
  repository.set('NOTICE', Buffer.alloc(0));
  repository.set('pytorch_model.bin', Buffer.from('pickle'));
  repository.set('README.md', Buffer.from('---\nlicense: mit\n---\ntext'));
  server = createServer(hub).listen(0, '127.0.0.1');
  await new Promise((ready) => server.once('listening', ready));
});

let home = '';
beforeEach(() => {
  asked = [];
  fault = () => false;
  home = mkdtempSync(join(root, 'home-'));
  for (const name of environment) delete process.env[name];
  process.env.HF_HOME = home;
  process.env.HF_ENDPOINT = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterEach(() => {
  for (const [name, value] of before) {
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  }
});
afterAll(() => {
  server.close();
  server.closeAllConnections();
  rmSync(root, { recursive: true });
});

const snapshot = () => join(home, 'hub', 'models--org--tiny', 'snapshots', commit);

async function failure(location: string, revision?: string): Promise<LapidaryError> {
  const found = await openCheckpoint(location, { revision }).then(
    () => undefined,
    (error) => error,
  );
  expect(found).toBeInstanceOf(LapidaryError);
  return found;
}

describe('a model from the hub', () => {
  it('comes with the files it needs and no others, into the layout of the standard cache', async () => {
    const checkpoint = await openCheckpoint('org/tiny');
    expect(checkpoint.source).toBe(`org/tiny@${commit}`);
    expect(checkpoint.folder).toBe(snapshot());
    expect(checkpoint.origin).toMatchObject({ license: 'mit', baseModel: 'org/tiny' });
    expect([...checkpoint.files.keys()]).not.toContain('README.md');
    expect(readdirSync(snapshot()).sort()).toEqual([
      'NOTICE',
      'README.md',
      'config.json',
      'model.safetensors',
      'tokenizer.json',
    ]);
    expect(lstatSync(join(snapshot(), 'config.json')).isSymbolicLink()).toBe(true);
    expect(readFileSync(join(snapshot(), '..', '..', 'refs', 'main'), 'utf8')).toBe(commit);
    const bytes = checkpoint.tensors.get('w')!.bytes();
    expect(Buffer.from(bytes).equals(Buffer.from(weights.buffer))).toBe(true);
    expect(asked.every((request) => request.token === undefined)).toBe(true);
  });

  it('comes with its chat templates of other names, and with nothing else of its folders', async () => {
    const [template, other] = ['additional_chat_templates/tool_use.jinja', 'onnx/config.json'];
    repository.set(template, Buffer.from('{{ tools }}'));
    repository.set('additional_chat_templates/notes.txt', Buffer.from('x'));
    repository.set(other, Buffer.from('{}'));
    try {
      const { files } = await openCheckpoint('org/tiny');
      expect(Buffer.from(files.get(template)!()).toString()).toBe('{{ tools }}');
      expect(readdirSync(join(snapshot(), 'additional_chat_templates'))).toEqual(['tool_use.jinja']);
      expect(existsSync(join(snapshot(), other))).toBe(false);
      expect(asked.filter(({ path }) => path.includes('/tree/'))).toHaveLength(2);
    } finally {
      for (const name of [template, 'additional_chat_templates/notes.txt', other]) repository.delete(name);
    }
  });

  it('tells progress in bytes, up to all of them', async () => {
    const events: ProgressEvent[] = [];
    await openCheckpoint('org/tiny', { progress: (event) => events.push(event) });
    const total = ['README.md', 'config.json', 'model.safetensors', 'tokenizer.json'].reduce(
      (sum, name) => sum + repository.get(name)!.length,
      0,
    );
    expect(
      events.every((event, i) => event.total === total && (i === 0 || event.done >= events[i - 1].done)),
    ).toBe(true);
    expect(events.at(-1)).toMatchObject({ phase: 'download', done: total });
    expect(events.length).toBeGreaterThan(4);
  });

  it('is not downloaded twice', async () => {
    await openCheckpoint('org/tiny');
    asked = [];
    await openCheckpoint('org/tiny', { revision: 'refs/pr/1' });
    expect(asked.filter(({ path }) => path.includes('/resolve/'))).toEqual([]);
  });

  it('is asked for with HF_TOKEN, which must look like one', async () => {
    process.env.HF_TOKEN = 'hf_secret';
    await openCheckpoint('org/tiny');
    expect(asked.every((request) => request.token === 'Bearer hf_secret')).toBe(true);
    process.env.HF_TOKEN = 'secret';
    expect(await failure('org/tiny')).toMatchObject({
      exitCode: ExitCode.usage,
      problem: { where: 'HF_TOKEN' },
    });
  });

  it('goes where HF_HUB_CACHE says', async () => {
    process.env.HF_HUB_CACHE = join(home, 'elsewhere');
    const checkpoint = await openCheckpoint('org/tiny', { revision: commit });
    expect(checkpoint.folder.startsWith(join(home, 'elsewhere'))).toBe(true);
  });

  it('is taken from the cache offline, and when the hub does not answer', async () => {
    await openCheckpoint('org/tiny');
    asked = [];
    process.env.HF_HUB_OFFLINE = '1';
    expect((await openCheckpoint('org/tiny')).source).toBe(`org/tiny@${commit}`);
    expect((await openCheckpoint('org/tiny', { revision: commit })).tensors.size).toBe(1);
    expect((await failure('org/tiny', 'v2')).message).toMatch(/not in the cache(.|\n)*HF_HUB_OFFLINE/);
    expect(asked).toEqual([]);
    delete process.env.HF_HUB_OFFLINE;
    fault = (_path, response) => Boolean(response.writeHead(503).end());
    expect((await openCheckpoint('org/tiny')).source).toBe(`org/tiny@${commit}`);
    process.env.HF_ENDPOINT = 'http://127.0.0.1:18';
    expect((await openCheckpoint('org/tiny')).source).toBe(`org/tiny@${commit}`);
    expect(await failure('org/other')).toMatchObject({ exitCode: ExitCode.system });
    expect((await failure('org/other')).message).toMatch(/out of reach(.|\n)*ECONNREFUSED/);
  });

  it('goes on where a broken download stopped', async () => {
    const path = `/org/tiny/resolve/${commit}/model.safetensors`;
    const bytes = repository.get('model.safetensors')!;
    let broken = 0;
    fault = (at, response) => {
      if (at !== path || asked.at(-1)?.range || broken++ > 0) return false;
      response.writeHead(200, { 'content-length': bytes.length });
      response.write(bytes.subarray(0, 70_000), () => setTimeout(() => response.destroy(), 50));
      return true;
    };
    const error = await failure('org/tiny');
    expect(error.message).toMatch(/download failed(.|\n)*what was downloaded is kept/);
    expect(existsSync(join(snapshot(), 'model.safetensors'))).toBe(false);
    expect(existsSync(join(home, 'hub', 'models--org--tiny', 'refs', 'main'))).toBe(false);
    asked = [];
    const checkpoint = await openCheckpoint('org/tiny');
    expect(asked.some(({ range }) => range === `bytes=70000-${bytes.length - 1}`)).toBe(true);
    expect(Buffer.from(checkpoint.tensors.get('w')!.bytes()).equals(Buffer.from(weights.buffer))).toBe(true);
  });

  it('is refused where the bytes are not those that the hub announced, and nothing of them is kept', async () => {
    const bad = Buffer.from(repository.get('model.safetensors')!);
    bad[bad.length - 1] ^= 1;
    fault = (at, response) => {
      if (!at.endsWith('/model.safetensors') || asked.at(-1)?.range) return false;
      response.writeHead(200, { 'content-length': bad.length }).end(bad);
      return true;
    };
    expect((await failure('org/tiny')).message).toMatch(/not what the hub announced(.|\n)*hash/);
    expect(
      readdirSync(join(home, 'hub', 'models--org--tiny', 'blobs')).some((name) =>
        name.includes('incomplete'),
      ),
    ).toBe(false);
  });

  it.each([
    [401, /private or gated/, /HF_TOKEN/],
    [403, /refuses access/, /accept its terms/],
    [404, /no such model or revision/, /spelling/],
    [429, /too many requests/, /later/],
  ])('answers status %i with what it means and what to do', async (status, what, fix) => {
    fault = (_path, response) => {
      response.writeHead(status, { 'content-type': 'application/json' }).end('{"error":"the reason given"}');
      return true;
    };
    const { problem, exitCode } = await failure('org/tiny');
    expect(problem.what).toMatch(what);
    expect(problem.fix).toMatch(fix);
    expect(problem.found).toBe(`status ${status}: the reason given`);
    expect(exitCode).toBe(ExitCode.input);
  });

  it('is refused before anything is downloaded where it has no safetensors', async () => {
    const whole = repository.get('model.safetensors')!;
    repository.delete('model.safetensors');
    expect((await failure('org/tiny')).message).toMatch(/pickle(.|\n)*pytorch_model.bin/);
    expect(asked.some(({ path }) => path.includes('/resolve/'))).toBe(false);
    repository.set('model.safetensors', whole);
  });

  it('cannot be made to write outside its cache by a revision, a commit or a file name', async () => {
    for (const revision of ['../../../evil', 'a/../../b', '-x', '']) {
      expect((await failure('org/tiny', revision)).exitCode).toBe(ExitCode.usage);
    }
    const answers: [RegExp, unknown][] = [
      [/\/revision\//, { _id: '1', id: 'org/tiny', sha: '../../evil', lastModified: '2024-01-01T00:00:00Z' }],
      [
        /\/tree\//,
        [
          { ...listed('config.json', Buffer.from('{}')), oid: '../../evil' },
          listed('model.safetensors', Buffer.from('x')),
        ],
      ],
    ];
    for (const [route, answer] of answers) {
      fault = (path, response) => {
        if (!route.test(path)) return false;
        response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(answer));
        return true;
      };
      await failure('org/tiny');
    }
    fault = (path, response) => {
      if (!path.includes('/tree/')) return false;
      const entries = [
        'config.json',
        'model.safetensors',
        '../tokenizer.json',
        'onnx/tokenizer.json',
        '/NOTICE',
      ];
      const all = entries.map((name) => listed(name, repository.get(name) ?? Buffer.from('{}')));
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(all));
      return true;
    };
    expect([...(await openCheckpoint('org/tiny')).files.keys()]).toEqual([]);
    expect(readdirSync(home)).toEqual(['hub']);
    expect(readdirSync(join(home, 'hub'))).toEqual(['models--org--tiny']);
  });

  it('whose cache cannot be written says so', async () => {
    writeFileSync(join(home, 'file'), '');
    process.env.HF_HUB_CACHE = join(home, 'file');
    const error = await failure('org/tiny');
    expect(error.exitCode).toBe(ExitCode.system);
    mkdirSync(join(home, 'hub'), { recursive: true });
  });
});

describe('isHubId', () => {
  it('knows org/name from paths', () => {
    for (const id of ['org/name', 'HuggingFaceTB/SmolLM2-135M', 'a/b_c.d-1'])
      expect(isHubId(id), id).toBe(true);
    for (const text of ['name', './a/b', '../a', 'a/..', '/a/b', 'a/b/c', 'a\\b', 'a/', '', 'a/b c', '~/a']) {
      expect(isHubId(text), text).toBe(false);
    }
  });
});

describe('the address of a page', () => {
  it('is taken for its id, a path for what it is, and a revision is asked for by its flag', () => {
    for (const page of ['', '/', '/tree/main', '/blob/main/config.json', '?library=transformers', '#use'])
      expect(withoutAddress(`https://huggingface.co/org/name${page}`), page).toBe('org/name');
    for (const text of ['org/name', './a/b', 'https://example.com/org/name', 'https://huggingface.co/org'])
      expect(withoutAddress(text)).toBe(text);
    expect(() => withoutAddress('https://huggingface.co/org/name/tree/v2')).toThrow(
      /to do: give org\/name --revision v2/,
    );
  });
});
