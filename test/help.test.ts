/** What the command line tells of itself: flags under headings, methods by name. */

import { describe, expect, it } from 'vitest';
import { methods } from '../src/methods/index.ts';
import { answer } from './command-line.ts';

const help = async (...args: string[]) => (await answer(['compress', ...args])).stdout;
const flags = (text: string) => [...text.matchAll(/^ {2}(?:-h, )?(--[\w-]+)/gm)].map(([, flag]) => flag);

describe('compress --help', () => {
  it('has its flags under headings, of methods only the few that most runs need', async () => {
    const text = await help('--help');
    const headings = [...text.matchAll(/^([A-Z]\w+):$/gm)].map(([, heading]) => heading);
    expect(headings).toEqual([
      'Arguments',
      'Model',
      'Method',
      'Text',
      'Output',
      'Machine',
      'Help',
      'Examples',
    ]);
    expect(flags(text)).toEqual(
      expect.arrayContaining(['--method', '--bits', '--out', '--calibration', '--help-all']),
    );
    expect(flags(text)).not.toContain('--damping');
    expect(text.split('\n').length).toBeLessThan(110);
  });

  it('with methods named has their flags, with what they mean for these', async () => {
    const one = await help('--method', 'hqq', '--help');
    expect(flags(one)).toEqual(expect.arrayContaining(['--bits', '--method', '--seed']));
    expect(flags(one)).not.toContain('--damping');
    expect(one).not.toMatch(/autoround: |hqq: /);
    const two = await help('--help', '--method', 'awq+gptq');
    expect(flags(two)).toEqual(expect.arrayContaining(['--damping', '--no-clip']));
    expect(two).toMatch(/--damping <number>\s+gptq: /);
  });

  it('with a format named has those of the method that it recommends', async () => {
    expect(flags(await help('--format', 'gguf', '--help'))).toEqual(
      expect.arrayContaining(['--fit', '--pure']),
    );
  });

  it('has all with --help-all, once each', async () => {
    const ended = await answer(['compress', '--help-all']);
    expect(ended.code).toBe(0);
    const all = flags(ended.stdout);
    expect(all).toEqual(expect.arrayContaining(['--damping', '--fit', '--no-clip', '--growth']));
    expect(new Set(all).size).toBe(all.length);
  });

  it('says which method is meant by a name that there is not', async () => {
    const ended = await answer(['compress', '--method', 'gtpq', '--help']);
    expect(ended).toMatchObject({ code: 2, stderr: expect.stringContaining('did you mean "gptq"?') });
  });
});

describe('lapidary methods', () => {
  it('has every method with its sentence and what it needs', async () => {
    const { stdout } = await answer(['methods']);
    for (const { name } of methods) expect(stdout).toContain(`\n  ${name}\n`);
    const words = stdout.replace(/\s+/g, ' ');
    for (const { summary } of methods) expect(words).toContain(summary);
    expect(words).toContain(
      'Needs calibration text, or an importance matrix (--imatrix), or none with --fit plain.',
    );
    expect(Math.max(...stdout.split('\n').map(({ length }) => length))).toBeLessThanOrEqual(80);
  });

  it('has of one its options as they are typed, each with a word on it', async () => {
    const { stdout } = await answer(['methods', 'gptq']);
    expect(stdout).toContain('--bits <number>: 2, 3, 4, 8 (default: 4)');
    expect(stdout).toContain('--no-sequential (default: on)');
    for (const { name } of methods) {
      const { options } = JSON.parse((await answer(['methods', name, '--json'])).stdout);
      for (const option of options) expect(option.help, `${name}, ${option.name}`).not.toBe('');
    }
  });

  it('says which is meant by a name that there is not', async () => {
    const ended = await answer(['methods', 'awk', '--json']);
    expect(ended.code).toBe(2);
    expect(JSON.parse(ended.stdout).error.fix).toBe('did you mean "awq"?');
  });
});

it('a flag that is not known is answered with one that may be meant, where one is near', async () => {
  const answered = async (flag: string) => JSON.parse((await answer(['compress', '--json', flag])).stdout);
  expect(await answered('--lenght')).toMatchObject({ error: { fix: 'Did you mean --length?' } });
  expect(await answered('--nope')).toEqual({ error: { what: "unknown option '--nope'" }, exitCode: 2 });
  expect((await answer(['compress', '--nope'])).stderr).not.toContain('Did you mean');
});
