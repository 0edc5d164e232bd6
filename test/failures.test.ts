/**
 * Disks that are full or read-only and files that change under a run, for real: the real command line, real disks where
 * this user may mount one, and limits of the shell everywhere else. Each ends with what, where and what to do, under the
 * right exit code; nothing appears under the final name, and what was there before is as it was.
 */

import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Ended } from './command-line.ts';
import { bin, scratchFolder, writeStories } from './command-line.ts';
import { writeTinyCheckpoint } from './models/checkpoint.ts';

const scratch = scratchFolder();
const model = scratch.path('tiny');
const weights = join(model, 'model.safetensors');
const text = scratch.path('text.jsonl');
const meanwhile = pathToFileURL(join(import.meta.dirname, 'meanwhile.js')).href;
const posix = process.platform !== 'win32';

/** When which file is opened or moved to its place for the n-th time, and what then happens. */
interface Meanwhile {
  readonly call: 'openSync' | 'renameSync';
  readonly path: string;
  readonly nth?: number;
  readonly run: string;
}

interface Run {
  readonly meanwhile?: Meanwhile;
  /** The most bytes that a file may have. */
  readonly fileLimit?: number;
  /** Measured as well, for which the original is written, too. */
  readonly speed?: boolean;
}

function compress(out: string, { meanwhile: event, fileLimit, speed = false }: Run = {}): Promise<Ended> {
  const flags = ['--calibration', text, '--sequences', '8', '--length', '32', '--threads', '1', '--out', out];
  flags.push('--no-answers', ...(speed ? [] : ['--no-speed']));
  const command = [process.execPath, '--import', meanwhile, bin, 'compress', model, ...flags];
  const limited = `ulimit -f ${Math.floor((fileLimit ?? 0) / 512)} && exec "$@"`;
  const [program, ...args] = fileLimit === undefined ? command : ['sh', '-c', limited, 'sh', ...command];
  const child = spawn(program!, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, MEANWHILE: event ? JSON.stringify({ nth: 1, ...event }) : undefined },
  });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (data) => (stdout += data));
  child.stderr.on('data', (data) => (stderr += data));
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, stdout, stderr }));
  });
}

const sha256 = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex');
/** What a run's result is known by. */
const result = (out: string) =>
  ['onnx/model_q4.onnx', 'recipe.yaml', 'config.json'].map((name) => sha256(join(out, name)));
let undisturbed: readonly string[];
let ownText: string;

beforeAll(async () => {
  await writeTinyCheckpoint(model, { num_hidden_layers: 6 });
  writeStories(text, 12);
  ownText = readFileSync(text, 'utf8');
  const { code, stderr } = await compress(scratch.path('undisturbed'));
  expect([code, stderr]).toEqual([0, expect.stringContaining('compress: ')]);
  undisturbed = result(scratch.path('undisturbed'));
});

/** A small disk of its own; undefined where this user may not mount one. */
function mountDisk(name: string, size: string): string | undefined {
  const disk = scratch.path(name);
  mkdirSync(disk);
  return spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', disk]).status === 0
    ? disk
    : undefined;
}
const [small, roomy] = [mountDisk('small', '2m'), mountDisk('roomy', '48m')];
afterAll(() => {
  for (const disk of [small, roomy]) if (disk) spawnSync('umount', ['-l', disk]);
  scratch.remove();
});
const unmountable = small && roomy ? '' : ' (skipped: this user may not mount a disk)';

describe('a disk', () => {
  it.skipIf(!small)(`that is too small is found out before the work${unmountable}`, async () => {
    const { code, stderr } = await compress(join(small!, 'out'));
    expect(code).toBe(4);
    expect(stderr).toMatch(
      /error: .*small: the disk has not enough room for this run\n {2}expected: \d+ MB: the result .*\n {2}found: \d MB free\n {2}to do: make room/,
    );
    expect(stderr).not.toContain('compress:');
    expect(readdirSync(small!)).toEqual([]);
  });

  it.skipIf(!roomy).each([
    ['a block is kept', '.out.journal/block-2.safetensors', 1, false],
    // Two were written before, to choose between.
    ['the result is written', 'onnx/model_q4.onnx', 3, false],
    ['the report is written', '.scratch/original/generation_config.json', 1, true],
  ])(
    `that is full when %s: with room again the same command continues${unmountable}`,
    async (_, path, nth, speed) => {
      const disk = join(roomy!, 'disk');
      mkdirSync(disk);
      const filler = join(roomy!, 'filler');
      const full = await compress(join(disk, 'out'), {
        meanwhile: { call: 'renameSync', path, nth, run: `cat /dev/zero > ${filler}` },
        speed,
      });
      expect(full.stderr).toMatch(/error: .*: the disk is full\n {2}found: ENOSPC\n {2}to do: make room/);
      expect(full.stderr).toContain('the same command continues');
      expect([full.code, full.stdout]).toEqual([4, '']);
      expect(readdirSync(disk)).toEqual(['.out.journal']);
      rmSync(filler);
      const { code } = await compress(join(disk, 'out'), { speed });
      expect(code).toBe(0);
      expect(result(join(disk, 'out'))).toEqual(undisturbed);
      expect(readdirSync(disk)).toEqual(['out']);
      rmSync(disk, { recursive: true });
    },
  );

  it.skipIf(!posix).each([
    ['what is done', 100_000, /journal/],
    ['the result', 200_000, /model_q4\.onnx/],
    ['the original for its speed', 800_000, /model\.onnx/],
  ])('that takes no files as large as %s (skipped on Windows)', async (_, fileLimit, where) => {
    const folder = scratch.path(`limit-${fileLimit}`);
    mkdirSync(folder);
    const out = join(folder, 'out');
    const speed = fileLimit === 800_000;
    const limited = await compress(out, { fileLimit, speed });
    expect(limited.stderr).toMatch(/the file grew beyond what this disk or this session allows/);
    expect(limited.stderr).toMatch(where);
    expect(limited.stderr).toMatch(/to do: write to another disk, or raise ulimit -f/);
    expect([limited.code, limited.stdout]).toEqual([4, '']);
    expect(existsSync(out)).toBe(false);
    if (!speed) return;
    expect((await compress(out, { speed })).code).toBe(0);
    expect(result(out)).toEqual(undisturbed);
  });
});

describe('a place for the result', () => {
  it('that is inside a file is refused', async () => {
    const file = scratch.path('file.txt');
    writeFileSync(file, 'mine');
    const { code, stderr } = await compress(join(file, 'out'));
    expect(stderr).toMatch(
      /error: .*out: (a part of the path is a file|a file is in the way)\n(.|\n)*to do: choose another place/,
    );
    expect(code).toBe(4);
    expect(readFileSync(file, 'utf8')).toBe('mine');
  });

  const root = process.getuid?.() === 0;
  const why = roomy ? '' : root ? ' (skipped: root may write everywhere, and may not mount a disk)' : '';
  it.skipIf(!posix || (root && !roomy))(`that is read-only is refused before the work${why}`, async () => {
    const folder = roomy ?? scratch.path('read-only');
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, 'mine.txt'), 'mine');
    // Permissions do not bind root.
    const change = (command: string, ...args: string[]) => expect(spawnSync(command, args).status).toBe(0);
    if (roomy) change('mount', '-o', 'remount,ro', roomy);
    else change('chmod', '500', folder);
    const { code, stderr } = await compress(join(folder, 'out'));
    if (roomy) change('mount', '-o', 'remount,rw', roomy);
    else change('chmod', '700', folder);
    expect(stderr).toMatch(/error: .*out: (the disk is read-only|no permission)\n(.|\n)*to do: choose a/);
    expect(stderr).not.toContain('compress:');
    expect(code).toBe(4);
    expect(readdirSync(folder)).toEqual(['mine.txt']);
  });
});

describe.skipIf(!posix)('a file that is read (skipped on Windows)', () => {
  it.each([
    [
      'cut',
      `head -c 100000 ${weights} > ${weights}.new && cat ${weights}.new > ${weights}`,
      'found: 100000 bytes',
    ],
    [
      'written over',
      `cp ${weights} ${weights}.new && cat ${weights}.new > ${weights}`,
      'found: written again',
    ],
    ['replaced', `cp ${weights} ${weights}.new && mv ${weights}.new ${weights}`, 'found: written again'],
    ['removed', `rm ${weights}`, 'found: no file'],
  ])('weights that are %s during the walk end it, by name', async (what, run, found) => {
    const kept = scratch.path('kept');
    copyFileSync(weights, kept);
    const folder = scratch.path(`weights-${what}`);
    mkdirSync(folder);
    const out = join(folder, 'out');
    const { code, stdout, stderr } = await compress(out, {
      meanwhile: { call: 'renameSync', path: 'journal/block-1.safetensors', run },
    });
    expect(stderr).toContain(`${weights}: the file changed while it was in use`);
    expect(stderr).toContain(found);
    expect(stderr).toContain('to do: wait until nothing writes to it, then run again');
    expect([code, stdout]).toEqual([3, '']);
    expect(readdirSync(folder)).toEqual(['.out.journal']);
    copyFileSync(kept, weights);
    rmSync(`${weights}.new`, { force: true });
    // The same bytes are there again: what was done with them still holds.
    if (what !== 'removed') return;
    const again = await compress(out);
    expect([again.code, again.stderr]).toEqual([0, expect.not.stringContaining('thrown away')]);
    expect(result(out)).toEqual(undisturbed);
  });

  it('text that changes while it is read ends the run before the work', async () => {
    const { code, stderr } = await compress(scratch.path('changing'), {
      meanwhile: { call: 'openSync', path: text, nth: 2, run: `echo '{"text":"more"}' >> ${text}` },
    });
    writeFileSync(text, ownText);
    expect(stderr).toContain(`${text}: the file changed while it was in use`);
    expect(stderr).not.toContain('compress:');
    expect(code).toBe(3);
    expect(existsSync(scratch.path('changing'))).toBe(false);
  });

  it('text that changes later changes nothing: the recipe names what was read', async () => {
    // Folders above it that are missing are made.
    const out = scratch.path('new/deeper/out');
    const { code } = await compress(out, {
      meanwhile: { call: 'renameSync', path: 'journal/tables.safetensors', run: `echo changed > ${text}` },
    });
    writeFileSync(text, ownText);
    expect(code).toBe(0);
    expect(result(out)).toEqual(undisturbed);
    expect(readFileSync(join(out, 'recipe.yaml'), 'utf8')).toContain(`calibrationSha256: ${sha256(text)}`);
  });
});
