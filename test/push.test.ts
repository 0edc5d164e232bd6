/** A result goes to the hub and comes back the same: the real client against a server that keeps what it is given. */

import { spawn } from 'node:child_process';
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { downloadSnapshot } from '../src/io/hub.ts';
import { push } from '../src/share/push.ts';
import { answer, bin, lapidary } from './command-line.ts';
import type { HubServer } from './hub-server.ts';
import { partBytes, startHub, tokens } from './hub-server.ts';

const root = mkdtempSync(join(tmpdir(), 'lapidary-push-'));
const result = join(root, 'small');
let hub: HubServer;

const variables = [
  'HF_ENDPOINT',
  'HF_HOME',
  'HF_HUB_CACHE',
  'HF_HUB_OFFLINE',
  'HF_TOKEN',
  'HF_TOKEN_PATH',
  'HUGGING_FACE_HUB_TOKEN',
];
const before = variables.map((name) => [name, process.env[name]] as const);

beforeAll(async () => {
  const quick = ['--method', 'rtn', '--sequences', '2', '--length', '32', '--no-speed', '--no-answers'];
  const { code, stderr } = await lapidary(['compress', '--out', result, ...quick]);
  expect(code, stderr).toBe(0);
  // What is no part of a result.
  mkdirSync(join(result, '.small.journal'));
  writeFileSync(join(result, '.small.journal', 'unit'), 'left by a killed run');
  writeFileSync(join(result, '.scratch'), '');
});
let count = 0;
beforeEach(async () => {
  for (const name of variables) delete process.env[name];
  await hub?.close();
  hub = await startHub(join(root, `hub-${count++}`));
  process.env.HF_ENDPOINT = hub.url;
  process.env.HF_HOME = join(root, `home-${count}`);
  process.env.HF_TOKEN = tokens.writer;
});
afterAll(async () => {
  await hub.close();
  rmSync(root, { recursive: true });
  for (const [name, value] of before) {
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  }
});

const files = [
  'README.md',
  'config.json',
  'genai_config.json',
  'generation_config.json',
  'onnx/model_q4.onnx',
  'recipe.yaml',
  'report.html',
  'report.json',
  'tokenizer.json',
  'tokenizer_config.json',
];

describe('lapidary push', () => {
  it('uploads a whole result, which our own reader downloads again, byte for byte', async () => {
    const phases: string[] = [];
    const pushed = await push(result, 'org/small', {
      create: true,
      progress: ({ phase, done, total }) => {
        expect(done).toBeLessThanOrEqual(total);
        if (phases.at(-1) !== phase) phases.push(phase);
      },
    });
    expect(pushed.files.map(({ path }) => path)).toEqual(files);
    expect(pushed.url).toBe(`${hub.url}/org/small`);
    expect(phases).toContain('upload');
    const snapshot = await downloadSnapshot('org/small', { folders: ['onnx'], choose: (names) => names });
    expect(snapshot.commit).toBe(pushed.commit);
    for (const { path, bytes } of pushed.files) {
      const there = readFileSync(join(snapshot.folder, path));
      expect(there.byteLength).toBe(bytes);
      expect(there.equals(readFileSync(join(result, path))), path).toBe(true);
    }
    // The weights are larger than a part, and so went in several.
    expect(pushed.bytes).toBeGreaterThan(partBytes);
    expect(hub.asked.filter((line) => /^PUT \/objects\/.*\/2$/.test(line)).length).toBeGreaterThan(0);
    expect(hub.repositories.get('org/small')!.branches.get('main')![0]!.message).toMatch(
      /^Lapidary: rtn on blocks/,
    );
  });

  it('tells the bytes that are on their way', async () => {
    const told: number[] = [];
    await push(result, 'org/small', {
      create: true,
      progress: ({ phase, done }) => phase === 'upload' && told.push(done),
    });
    expect(new Set(told).size).toBeGreaterThan(5);
    expect(told).toEqual([...told].sort((a, b) => a - b));
  });

  it('takes files that are not held in memory', async () => {
    const folder = join(root, 'large');
    mkdirSync(folder, { recursive: true });
    // The client hashes what is larger than 10 MB as a stream.
    writeFileSync(join(folder, 'model.gguf'), Buffer.alloc(11_000_003, 'lapidary'));
    let last = 0;
    const pushed = await push(folder, 'org/large', {
      create: true,
      any: true,
      progress: ({ done }) => (last = done),
    });
    expect(last).toBe(11_000_003);
    const { files: there } = hub.repositories.get('org/large')!.branches.get('main')![0]!;
    expect(there.get('model.gguf')!.size).toBe(pushed.bytes);
  });

  it('sends nothing twice that is there already', async () => {
    await push(result, 'org/small', { create: true });
    hub.asked.length = 0;
    await push(result, 'org/small', { message: 'again' });
    expect(hub.asked.filter((line) => line.startsWith('PUT'))).toEqual([]);
    expect(
      hub.repositories
        .get('org/small')!
        .branches.get('main')!
        .map(({ message }) => message)[0],
    ).toBe('again');
  });

  it('makes private models, and branches', async () => {
    const args = ['push', result, 'org/hidden', '--private', '--revision', 'q4', '--json'];
    const { code, stdout } = await answer(args);
    expect(code).toBe(0);
    const { isPrivate, branches } = hub.repositories.get('org/hidden')!;
    expect(isPrivate).toBe(true);
    expect([...branches].map(([name, commits]) => [name, commits.length])).toEqual([
      ['main', 0],
      ['q4', 1],
    ]);
    expect(JSON.parse(stdout)).toMatchObject({
      repository: 'org/hidden',
      revision: 'q4',
      commit: branches.get('q4')![0]!.commit,
    });
  });

  it('shows with --dry-run what it would push, and asks nobody', async () => {
    delete process.env.HF_TOKEN;
    const { code, stdout } = await answer(['push', result, 'org/small', '--dry-run']);
    expect(code).toBe(0);
    for (const file of files) expect(stdout).toContain(`${file} `);
    expect(stdout).toMatch(/Would push 10 files, .* to org\/small, branch main/);
    expect(stdout).not.toContain('journal');
    expect(hub.asked).toEqual([]);
  });

  it('takes the token from where the tools of the hub keep it', async () => {
    delete process.env.HF_TOKEN;
    mkdirSync(process.env.HF_HOME!, { recursive: true });
    writeFileSync(join(process.env.HF_HOME!, 'token'), `${tokens.writer}\n`);
    expect((await answer(['push', result, 'org/by-file', '--create'])).code).toBe(0);
    process.env.HUGGING_FACE_HUB_TOKEN = tokens.reader;
    expect((await answer(['push', result, 'org/by-file'])).code).toBe(3);
    expect((await answer(['push', result, 'org/by-file', '--token', tokens.writer])).code).toBe(0);
  });
});

describe('what goes wrong is told', () => {
  const refused = async (...args: string[]) => {
    const { code, stderr, stdout } = await answer(['push', ...args]);
    expect(stdout).toBe('');
    expect(stderr).not.toContain(tokens.writer);
    return [code, stderr] as const;
  };

  it('a model that is not there: how it is made', async () => {
    expect(await refused(result, 'org/none')).toEqual([
      3,
      expect.stringMatching(/no such model(.|\n)*--create/),
    ]);
  });

  it('a token that may not write, one that is not known, and none at all', async () => {
    process.env.HF_TOKEN = tokens.reader;
    expect(await refused(result, 'org/small', '--create')).toEqual([
      3,
      expect.stringMatching(/may not write(.|\n)*403/),
    ]);
    process.env.HF_TOKEN = 'hf_other';
    expect(await refused(result, 'org/small', '--create')).toEqual([
      3,
      expect.stringMatching(/401(.|\n)*settings\/tokens/),
    ]);
    process.env.HF_TOKEN = 'secret';
    const [code, said] = await refused(result, 'org/small');
    expect([code, said]).toEqual([2, expect.stringContaining('HF_TOKEN')]);
    expect(said).not.toContain('secret');
    delete process.env.HF_TOKEN;
    expect(await refused(result, 'org/small')).toEqual([
      2,
      expect.stringMatching(/no token(.|\n)*HF_TOKEN=/),
    ]);
  });

  it('a hub that is away, or down', async () => {
    hub.fault = () => 503;
    expect(await refused(result, 'org/small', '--create')).toEqual([4, expect.stringContaining('503')]);
    process.env.HF_ENDPOINT = 'http://127.0.0.1:1';
    expect(await refused(result, 'org/small', '--create')).toEqual([
      4,
      expect.stringContaining('out of reach'),
    ]);
    process.env.HF_HUB_OFFLINE = '1';
    expect(await refused(result, 'org/small')).toEqual([4, expect.stringContaining('HF_HUB_OFFLINE')]);
  });

  it('a folder that is no result, which --any pushes all the same', async () => {
    const other = join(root, 'other');
    mkdirSync(other, { recursive: true });
    writeFileSync(join(other, 'notes.txt'), 'notes');
    expect(await refused(other, 'org/notes', '--create')).toEqual([
      3,
      expect.stringMatching(/no result(.|\n)*--any/),
    ]);
    expect(hub.asked).toEqual([]);
    expect((await answer(['push', other, 'org/notes', '--create', '--any'])).code).toBe(0);
    expect(hub.repositories.get('org/notes')!.branches.get('main')![0]!.files.has('notes.txt')).toBe(true);
  });

  it('a result whose weights are not as they were written', async () => {
    const damaged = join(root, 'damaged');
    cpSync(result, damaged, { recursive: true });
    appendFileSync(join(damaged, 'onnx/model_q4.onnx'), 'x');
    expect(await refused(damaged, 'org/small')).toEqual([3, expect.stringMatching(/not whole(.|\n)*bytes/)]);
    rmSync(join(damaged, 'onnx/model_q4.onnx'));
    expect(await refused(damaged, 'org/small')).toEqual([3, expect.stringContaining('no such file')]);
  });

  it('a folder that is not there, and a name that is none', async () => {
    expect((await refused(join(root, 'nowhere'), 'org/small'))[0]).toBe(3);
    expect((await refused(result, 'small'))[0]).toBe(2);
  });

  it.skipIf(process.platform === 'win32')(
    'Ctrl-C ends it, and nothing is committed (skipped on Windows)',
    async () => {
      const child = spawn(process.execPath, [bin, 'push', result, 'org/stopped', '--create'], {
        stdio: 'ignore',
      });
      hub.hear = (line) => {
        if (line.startsWith('PUT')) child.kill('SIGINT');
      };
      const code = await new Promise((resolve) => child.on('close', resolve));
      expect(code).toBe(130);
      expect(hub.repositories.get('org/stopped')!.branches.get('main')).toEqual([]);
      expect(existsSync(result)).toBe(true);
    },
  );
});
