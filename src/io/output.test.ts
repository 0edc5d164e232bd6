import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { ExitCode, LapidaryError } from '../base/errors.ts';
import { createOutputFolder, isBeingWritten, openOutputFile, writeFileAtomic } from './output.ts';
import { systemError } from './system-error.ts';

const root = mkdtempSync(join(tmpdir(), 'lapidary-output-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));
let count = 0;

function place(): string {
  const path = join(root, `place-${count++}`);
  mkdirSync(path);
  return path;
}

function failure(action: () => unknown): LapidaryError {
  try {
    action();
  } catch (error) {
    expect(error).toBeInstanceOf(LapidaryError);
    return error as LapidaryError;
  }
  throw new Error('nothing was thrown');
}

const bytes = (text: string) => Buffer.from(text);
const text = (...path: string[]) => readFileSync(join(...path), 'utf8');

describe('writeFileAtomic', () => {
  it('writes a file, and over one that is there', () => {
    const path = join(place(), 'x.json');
    writeFileAtomic(path, bytes('one'));
    writeFileAtomic(path, bytes('two'));
    expect(text(path)).toBe('two');
    expect(readdirSync(join(path, '..'))).toEqual(['x.json']);
  });

  it('is not seen before it is whole, and an abandoned one not at all', () => {
    const folder = place();
    writeFileSync(join(folder, 'x'), 'old');
    const file = openOutputFile(join(folder, 'x'));
    file.write(bytes('ne'));
    expect(text(folder, 'x')).toBe('old');
    file.abandon();
    expect(readdirSync(folder)).toEqual(['x']);
    expect(text(folder, 'x')).toBe('old');
  });

  it('does not replace a folder or a device', () => {
    expect(failure(() => writeFileAtomic(place(), bytes('x'))).message).toMatch(
      /not a file that can be replaced/,
    );
    if (existsSync('/dev/null')) failure(() => writeFileAtomic('/dev/null', bytes('x')));
  });

  it('says where a folder is missing', () => {
    const error = failure(() => writeFileAtomic(join(root, 'none', 'x'), bytes('x')));
    expect([error.exitCode, error.problem.found]).toEqual([ExitCode.system, 'ENOENT']);
  });
});

describe('an output folder', () => {
  it('appears with all its files when it is committed, and not before', () => {
    const target = join(place(), 'a', 'out');
    const out = createOutputFolder(target);
    out.write('config.json', bytes('{}'));
    out.write('onnx/model.onnx', bytes('model'));
    writeFileSync(out.file('onnx/data'), 'data');
    expect(existsSync(target)).toBe(false);
    out.commit();
    out.abandon();
    expect(
      text(target, 'config.json') + text(target, 'onnx', 'model.onnx') + text(target, 'onnx', 'data'),
    ).toBe('{}modeldata');
    expect(readdirSync(join(target, '..'))).toEqual(['out']);
  });

  it('leaves nothing when it is abandoned', () => {
    const folder = place();
    const out = createOutputFolder(join(folder, 'out'));
    out.write('x', bytes('x'));
    out.abandon();
    expect(readdirSync(folder)).toEqual([]);
  });

  it('takes an empty folder, refuses one that is not, unless it may replace it whole', () => {
    const folder = place();
    const target = join(folder, 'out');
    mkdirSync(target);
    const fill = (options = {}) => {
      const out = createOutputFolder(target, options);
      out.write('x', bytes('new'));
      out.commit();
    };
    fill();
    writeFileSync(join(target, 'other'), 'old');
    expect(failure(fill).message).toMatch(/not empty(.|\n)*2 entries(.|\n)*--overwrite/);
    expect(readdirSync(target).sort()).toEqual(['other', 'x']);
    fill({ overwrite: true });
    expect(readdirSync(target)).toEqual(['x']);
    expect(readdirSync(folder)).toEqual(['out']);
  });

  it('looks again before it moves in: what came meanwhile is not lost', () => {
    const target = join(place(), 'out');
    const out = createOutputFolder(target);
    mkdirSync(target);
    writeFileSync(join(target, 'mine'), 'x');
    failure(() => out.commit());
    out.abandon();
    expect(readdirSync(target)).toEqual(['mine']);
  });

  it('never replaces the working folder, one above it, or the home', () => {
    for (const target of [process.cwd(), join(process.cwd(), '..'), homedir()]) {
      if (readdirSync(target).length === 0) continue;
      expect(failure(() => createOutputFolder(target, { overwrite: true })).message).toMatch(
        /refusing to replace/,
      );
    }
  });

  it('never replaces what the work reads, also through a link', () => {
    const folder = place();
    mkdirSync(join(folder, 'model'));
    writeFileSync(join(folder, 'model', 'weights'), 'w');
    symlinkSync(join(folder, 'model'), join(folder, 'link'));
    const link = join(folder, 'link');
    for (const read of [join(folder, 'model'), join(folder, 'model', 'weights'), link]) {
      const reads = [undefined, join(folder, 'nowhere'), read];
      const error = failure(() => createOutputFolder(join(folder, 'model'), { overwrite: true, reads }));
      expect(error.problem).toMatchObject({ found: read });
    }
    createOutputFolder(join(folder, 'model', 'small'), { overwrite: true, reads: [link] }).commit();
    expect(readdirSync(join(folder, 'model')).sort()).toEqual(['small', 'weights']);
  });

  it('goes where a link leads, and the link stays; one that leads nowhere is refused before the work', () => {
    const folder = place();
    const [real, link] = [join(folder, 'real'), join(folder, 'linked')];
    mkdirSync(real);
    symlinkSync(real, link);
    const out = createOutputFolder(link);
    out.write('a', bytes('1'));
    expect(isBeingWritten(link)).toBe(true);
    out.commit();
    expect(text(real, 'a')).toBe('1');
    expect(lstatSync(link).isSymbolicLink()).toBe(true);
    symlinkSync(join(folder, 'none'), join(folder, 'dangling'));
    expect(failure(() => createOutputFolder(join(folder, 'dangling'))).problem.what).toContain(
      'leads nowhere',
    );
  });

  it('is refused where a file stands', () => {
    const target = join(place(), 'out');
    writeFileSync(target, '');
    expect(failure(() => createOutputFolder(target)).message).toMatch(/a file stands/);
    expect(failure(() => createOutputFolder(join(target, 'deeper'))).exitCode).toBe(ExitCode.system);
  });

  it.each(['../x', '/x', 'a/../../x', '', '.', '..', 'a\\..\\x', 'C:x', 'x\0y'])(
    'refuses the name %j, which escapes',
    (name) => {
      const folder = place();
      const out = createOutputFolder(join(folder, 'out'));
      expect(failure(() => out.write(name, bytes('x'))).message).toMatch(/leaves its folder/);
      out.abandon();
      expect(readdirSync(folder)).toEqual([]);
    },
  );
});

describe('a full disk', () => {
  it.skipIf(!existsSync('/dev/full'))('is named (skipped where there is no /dev/full)', () => {
    const out = createOutputFolder(join(place(), 'out'));
    symlinkSync('/dev/full', out.file('weights'));
    const error = failure(() => out.write('weights', bytes('x')));
    out.abandon();
    expect(error.message).toMatch(/the disk is full(.|\n)*ENOSPC(.|\n)*make room/);
    expect(error.exitCode).toBe(ExitCode.system);
    expect(existsSync('/dev/full')).toBe(true);
  });

  const disk = join(root, 'disk');
  mkdirSync(disk);
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', disk]).status === 0;
  afterAll(() => void (mounted && spawnSync('umount', [disk])));

  it.skipIf(!mounted)(
    'leaves the old file and nothing half-written (skipped where no small disk can be mounted)',
    () => {
      const path = join(disk, 'model.safetensors');
      writeFileAtomic(path, bytes('old'));
      expect(failure(() => writeFileAtomic(path, Buffer.alloc(100_000))).message).toMatch(/the disk is full/);
      expect(text(path)).toBe('old');
      expect(readdirSync(disk)).toEqual(['model.safetensors']);
      const out = createOutputFolder(join(disk, 'out'));
      failure(() => out.write('x', Buffer.alloc(100_000)));
      out.abandon();
      expect(readdirSync(disk)).toEqual(['model.safetensors']);
    },
  );

  it('is told apart from missing rights, read-only disks and defects', () => {
    for (const code of ['EACCES', 'EROFS', 'EDQUOT', 'EFBIG']) {
      const error = systemError(Object.assign(new Error('x'), { code }), 'here') as LapidaryError;
      expect([error.exitCode, error.problem.found, error.problem.where]).toEqual([
        ExitCode.system,
        code,
        'here',
      ]);
      expect(error.problem.fix).toBeTruthy();
    }
    const defect = new TypeError('a defect');
    expect(systemError(defect, 'here')).toBe(defect);
  });
});

describe('a process that is interrupted', () => {
  const module = JSON.stringify(pathToFileURL(join(import.meta.dirname, 'output.ts')).href);

  function child(target: string, rest: string) {
    const code = `import { createOutputFolder, openOutputFile } from ${module};
      const out = createOutputFolder(${JSON.stringify(target)});
      out.write('x', Buffer.from('x'));
      openOutputFile(${JSON.stringify(`${target}.json`)}).write(Buffer.from('y'));
      ${rest}`;
    return spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '--eval', code], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  }

  it.skipIf(process.platform === 'win32').each(['SIGINT', 'SIGTERM'] as const)(
    'by %s leaves nothing and ends by that signal (skipped on Windows)',
    async (signal) => {
      const folder = place();
      const running = child(join(folder, 'out'), "console.log('ready'); setInterval(() => {}, 1000);");
      await once(running.stdout, 'data');
      expect(readdirSync(folder)).toHaveLength(2);
      running.kill(signal);
      const [code, by] = await once(running, 'exit');
      expect([code, by]).toEqual([null, signal]);
      expect(readdirSync(folder)).toEqual([]);
    },
  );

  it.skipIf(process.platform === 'win32')(
    'and handles the signal itself keeps its output until it ends (skipped on Windows)',
    async () => {
      const folder = place();
      const handled = `process.on('SIGINT', () => { out.commit(); process.exit(3); });
        console.log('ready'); setInterval(() => {}, 1000);`;
      const running = child(join(folder, 'out'), handled);
      await once(running.stdout, 'data');
      running.kill('SIGINT');
      const [code] = await once(running, 'exit');
      expect(code).toBe(3);
      expect(readdirSync(folder)).toEqual(['out']);
    },
  );

  it('by an error or an exit leaves nothing', async () => {
    const folder = place();
    for (const rest of ["throw new Error('defect')", 'process.exit(7)']) {
      const running = child(join(folder, 'out'), rest);
      const [code] = await once(running, 'exit');
      expect(code).not.toBe(0);
      expect(readdirSync(folder)).toEqual([]);
    }
  });

  it('killed outright leaves what the next run removes; and what it had replaced, once the new one is there', async () => {
    const folder = place();
    const target = join(folder, 'out');
    const running = child(target, "process.kill(process.pid, 'SIGKILL');");
    await once(running, 'exit');
    const left = readdirSync(folder);
    expect(left).toHaveLength(2);
    // Others' files, and those of names that only begin alike.
    const others = ['.out.1-2-3.partial', '.out2.1-2-01234567.partial', '.out.1-2-01234567.partial.json'];
    const dead = left.find((name) => !name.includes('json'))!.replace('.partial', '.replaced');
    for (const name of [...others, dead]) writeFileSync(join(folder, name), '');
    const out = createOutputFolder(target);
    expect(readdirSync(folder).filter((name) => name.endsWith('partial') && left.includes(name))).toEqual([
      left.find((name) => name.includes('json')),
    ]);
    expect(readdirSync(folder)).toContain(dead);
    out.commit();
    writeFileAtomic(`${target}.json`, bytes('x'));
    expect(readdirSync(folder).sort()).toEqual([...others, 'out', 'out.json'].sort());
  });

  it('keeps others from writing the same folder while it lives, and only then', async () => {
    const folder = place();
    const target = join(folder, 'out');
    const running = child(target, "console.log('ready'); setInterval(() => {}, 1000);");
    await once(running.stdout, 'data');
    const before = readdirSync(folder);
    const error = failure(() => createOutputFolder(target));
    expect(error.problem).toMatchObject({
      what: expect.stringContaining('another run'),
      found: `process ${running.pid}`,
    });
    expect(readdirSync(folder)).toEqual(before);
    // A file is whole whoever writes it last.
    writeFileAtomic(`${target}.json`, bytes('x'));
    running.kill('SIGKILL');
    await once(running, 'exit');
    createOutputFolder(target).commit();
    expect(readdirSync(folder).filter((name) => !name.includes('json'))).toEqual(['out']);
  });

  it('keeps itself from it too', () => {
    const target = join(place(), 'out');
    const first = createOutputFolder(target);
    expect(failure(() => createOutputFolder(target)).problem.found).toMatch(/this process/);
    first.abandon();
    createOutputFolder(target).commit();
  });

  it('keeps what was committed before', async () => {
    const folder = place();
    const running = child(join(folder, 'out'), 'out.commit(); process.exit(7);');
    await once(running, 'exit');
    expect(readdirSync(folder)).toEqual(['out']);
    expect(statSync(join(folder, 'out', 'x')).size).toBe(1);
  });
});
