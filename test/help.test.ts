/** What the command line tells of itself: flags under headings, methods by name. */

import { afterAll, describe, expect, it } from 'vitest';
import { command } from '../src/cli/compress.ts';
import { families, methods } from '../src/methods/index.ts';
import { answer, scratchFolder, writeStories } from './command-line.ts';

const scratch = scratchFolder();
afterAll(scratch.remove);
const few = scratch.path('few.jsonl');
writeStories(few, 12);

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
  });

  it('fits on a screen and a half, examples and all', () => {
    let text = '';
    command()
      .configureOutput({ getOutHelpWidth: () => 100, writeOut: (part) => void (text += part) })
      .outputHelp();
    expect(text).toContain('Examples:');
    expect(text.trimEnd().split('\n').length).toBeLessThanOrEqual(62);
    expect(Math.max(...text.split('\n').map(({ length }) => length))).toBeLessThanOrEqual(100);
  });

  it('has what few runs need with --help-all alone', async () => {
    const [usual, all] = [flags(await help('--help')), flags(await help('--help-all'))];
    for (const flag of ['--activations', '--products', '--separator', '--revision']) {
      expect(usual).not.toContain(flag);
      expect(all).toContain(flag);
    }
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

describe('lapidary --help', () => {
  it('has every command in a line, by what it is for', async () => {
    const { stdout } = await answer(['--help']);
    const headings = [...stdout.matchAll(/^(\w+):$/gm)].map(([, heading]) => heading);
    expect(headings).toEqual(['Options', 'Compress', 'Measure', 'Use', 'Share', 'Look', 'Examples']);
    const lines = stdout.slice(stdout.indexOf('Compress:'), stdout.indexOf('Examples:')).split('\n');
    for (const line of lines) expect(line).toMatch(/^$|^\w+:$|^ {2}\w+ {2,}\S.*$/);
  });

  it('tells of one command what its own help tells', async () => {
    const told = await answer(['help', 'inspect']);
    expect(told).toEqual(await answer(['inspect', '--help']));
    expect(told.stdout).toContain('--layer');
  });

  it('says which command is meant by a name that there is not', async () => {
    const { code, stderr } = await answer(['inspct']);
    expect([code, stderr]).toEqual([2, expect.stringContaining('Did you mean inspect?')]);
  });
});

describe('lapidary methods', () => {
  it('has every method in a line under its family', async () => {
    const { stdout } = await answer(['methods']);
    for (const { name } of methods)
      expect(stdout.match(new RegExp(`^  ${name} +(text)? +\\w.+$`, 'gm')), name).toHaveLength(1);
    for (const { title } of families) expect(stdout).toMatch(new RegExp(`^${title}: `, 'm'));
    expect(Math.max(...stdout.split('\n').map(({ length }) => length))).toBeLessThanOrEqual(
      Math.max(80, Math.min(process.stdout.columns ?? 100, 120)),
    );
  });

  it('has of one its paper, what it needs and what runs it, its options as they are typed', async () => {
    const { stdout } = await answer(['methods', 'gptq']);
    expect(stdout).toContain('Paper: https://arxiv.org/abs/2210.17323');
    expect(stdout).toMatch(/Needs: calibration text\. Computes the Gram matrix/);
    expect(stdout).toMatch(/ {2}gguf: GGUF for llama\.cpp \(--for .*llama\.cpp/);
    expect(stdout).toContain('--bits <number>: 2, 3, 4, 8 (default: 4)');
    expect(stdout).toContain('--no-sequential (default: on)');
  });

  it('says of one why a format does not hold what it makes', async () => {
    expect((await answer(['methods', 'binary'])).stdout).toMatch(/ {2}gguf: no: /);
    const { formats } = JSON.parse((await answer(['methods', 'binary', '--json'])).stdout);
    expect(formats.find(({ format }: { format: string }) => format === 'gguf').refused).toMatch(/binary/);
  });

  it.each(methods.map(({ name }) => name))('has an example of %s that runs', async (name) => {
    const { example } = JSON.parse((await answer(['methods', name, '--json'])).stdout);
    const files: Readonly<Record<string, string>> = {
      './my-model': 'pebble',
      'model-Q4_1.gguf': 'pebble',
      'text.jsonl': few,
    };
    const [program, ...args] = example.split(' ').map((word: string) => files[word] ?? word);
    expect(program).toBe('lapidary');
    const { code, stderr } = await answer([...args, '--memory', '--json']);
    expect(stderr).not.toContain('error');
    expect(code).toBe(0);
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
