/** Tab in real shells: what the printed scripts complete. zsh and fish are asked where they are installed. */

import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { formats } from '../src/formats/index.ts';
import { methods } from '../src/methods/index.ts';
import { bash } from '../src/cli/completion/bash.ts';
import { fish } from '../src/cli/completion/fish.ts';
import { zsh } from '../src/cli/completion/zsh.ts';
import { answer, scratchFolder } from './command-line.ts';
import { patience } from './patience.ts';

const scratch = scratchFolder();
afterAll(scratch.remove);

const script = (shell: string) => scratch.path(`completion.${shell}`);
beforeAll(async () => {
  for (const shell of ['bash', 'zsh', 'fish'])
    writeFileSync(script(shell), (await answer(['completion', shell])).stdout);
  // What a shell completes where it knows no words.
  writeFileSync(scratch.path('my-text.jsonl'), '');
});

const has = (shell: string) => spawnSync(shell, ['--version']).status === 0;

/** Runs a shell's program in the scratch folder. @returns the lines that it prints */
function lines(shell: string, args: readonly string[]): string[] {
  const { stdout, stderr, status } = spawnSync(shell, args, { encoding: 'utf8', cwd: scratch.path('.') });
  expect(stderr).toBe('');
  expect(status).toBe(0);
  return stdout.split('\n').filter((line) => line !== '');
}

/** What bash's own machinery gives the function: the words, with an opening quote on the one that is typed. */
function inBash(typed: string, from = script('bash')): string[] {
  const words = typed.split(/ (?=(?:[^"]*"[^"]*")*[^"]*$)/);
  const open = /^(.*) ("[^"]*)$/.exec(typed);
  const all = open ? [...open[1]!.split(' '), open[2]!] : words;
  const quoted = all.map((word) => `'${word}'`).join(' ');
  const [current, before] = [all.at(-1)!.replace(/^"/, ''), all.at(-2)!];
  return lines('bash', [
    '--norc',
    '-c',
    `source "$1"; COMP_WORDS=(${quoted}); COMP_CWORD=${all.length - 1}
_lapidary lapidary '${current}' '${before}'; printf '%s\\n' "\${COMPREPLY[@]}"`,
    'bash',
    from,
  ]);
}

/** What an interactive zsh runs when Tab and Enter are pressed behind a line: the arguments that lapidary would get. */
function inZsh(typed: string, from = script('zsh')): string {
  const setup = scratch.path('setup.zsh');
  writeFileSync(
    setup,
    `autoload -Uz compinit; compinit -u -D; source ${from}
lapidary() { print -r -- "got<$*>" }
print ready`,
  );
  const closing = typed.includes('"') ? '"' : '';
  const program = `zmodload zsh/zpty
zpty shell 'zsh -f -i'
zpty -w shell "source $1"
zpty -r -m shell line '*ready*'
zpty -w -n shell "$2"$'\\t'"$3"$'\\n'
zpty -r -m shell line '*got<*>*'
print -r -- "$line"
zpty -d shell`;
  const { stdout, stderr } = spawnSync('zsh', ['-f', '-c', program, 'zsh', setup, typed, closing], {
    encoding: 'utf8',
    cwd: scratch.path('.'),
    timeout: patience,
  });
  return /got<(.*?)>/.exec(stdout)?.[1]?.trim() ?? stdout + stderr;
}

const inFish = (typed: string, from = script('fish')): string[] =>
  lines('fish', ['--no-config', '-c', `source $argv[1]; complete -C $argv[2]`, from, typed]).map(
    (line) => line.split('\t')[0]!,
  );

const shells: readonly (readonly [string, (typed: string) => string[]])[] = [
  ['bash', inBash],
  ['fish', inFish],
];

describe.each(shells)('in %s', (shell, complete) => {
  const when = it.skipIf(!has(shell));

  when(`completes commands (skipped where there is no ${shell})`, () => {
    expect(complete('lapidary comp')).toEqual(expect.arrayContaining(['compare', 'compress', 'completion']));
    expect(complete('lapidary help insp')).toEqual(['inspect']);
  });

  when(`completes flags of the command at hand (skipped where there is no ${shell})`, () => {
    expect(complete('lapidary compress --calib')).toEqual(['--calibration']);
    expect(complete('lapidary inspect --')).toEqual(
      expect.arrayContaining(['--tensors', '--layer', '--help']),
    );
    expect(complete('lapidary inspect --')).not.toContain('--calibration');
  });

  when(`completes the values of a flag (skipped where there is no ${shell})`, () => {
    expect(complete('lapidary compress --for ').sort()).toEqual(
      expect.arrayContaining(Object.values(formats).flatMap(({ engines }) => Object.keys(engines))),
    );
    expect(complete('lapidary compress --format ').sort()).toEqual(Object.keys(formats).sort());
    expect(complete('lapidary compress --device ').sort()).toEqual(['cpu', 'webgpu']);
    expect(complete('lapidary compress --method gp')).toEqual(['gptq']);
    expect(complete('lapidary compress --step "gptq bits=').sort()).toEqual(
      ['2', '3', '4', '8'].map((bits) => `gptq bits=${bits}`),
    );
  });

  when(`completes names of methods (skipped where there is no ${shell})`, () => {
    expect(complete('lapidary methods ').sort()).toEqual(methods.map(({ name }) => name).sort());
  });

  when(`completes files where a file is meant (skipped where there is no ${shell})`, () => {
    // Bash does so by itself where the function gives nothing.
    const found = complete('lapidary compress --calibration my-');
    expect(found).toEqual(shell === 'bash' ? [] : ['my-text.jsonl']);
  });
});

describe('in zsh', () => {
  const when = it.skipIf(!has('zsh'));

  when('completes commands, flags, values and files (skipped where there is no zsh)', () => {
    expect(inZsh('lapidary insp')).toBe('inspect');
    expect(inZsh('lapidary compress --calib')).toBe('compress --calibration');
    expect(inZsh('lapidary compress --device web')).toBe('compress --device webgpu');
    expect(inZsh('lapidary compress --device=web')).toBe('compress --device=webgpu');
    expect(inZsh('lapidary methods gpt')).toBe('methods gptq');
    expect(inZsh('lapidary evaluate pebble --data my-')).toBe('evaluate pebble --data my-text.jsonl');
  });
});

/** A flag whose value is several words, as steps are. */
describe('a value of several words', () => {
  const flag = {
    long: '--step',
    help: 'a step',
    takesValue: true,
    values: ['gptq', 'rtn'],
    after: new Map([
      ['gptq', ['bits=2', 'bits=4', 'damping=']],
      ['rtn', ['bits=8']],
    ]),
  };
  const words = [{ name: 'compress', help: 'compress', flags: [flag], values: [] }];
  const made = (shell: string, make: (all: typeof words) => string) => {
    const path = scratch.path(`steps.${shell}`);
    writeFileSync(path, make(words));
    return path;
  };

  it('is completed in bash: first what may begin, then what may follow it', () => {
    const path = made('bash', bash);
    expect(inBash('lapidary compress --step g', path)).toEqual(['gptq']);
    expect(inBash('lapidary compress --step "gptq bits=', path)).toEqual(['gptq bits=2', 'gptq bits=4']);
    expect(inBash('lapidary compress --step "gptq bits=4 d', path)).toEqual(['gptq bits=4 damping=']);
    expect(inBash('lapidary compress --step "rtn b', path)).toEqual(['rtn bits=8']);
  });

  it.skipIf(!has('fish'))('in fish (skipped where there is none)', () => {
    const path = made('fish', fish);
    expect(inFish('lapidary compress --step g', path)).toEqual(['gptq']);
    expect(inFish('lapidary compress --step "gptq bits=', path)).toEqual(['gptq bits=2', 'gptq bits=4']);
    expect(inFish('lapidary compress --step "gptq bits=4 d', path)).toEqual(['gptq bits=4 damping=']);
  });

  it.skipIf(!has('zsh'))('in zsh (skipped where there is none)', () => {
    const path = made('zsh', zsh);
    expect(inZsh('lapidary compress --step g', path)).toBe('compress --step gptq');
    expect(inZsh('lapidary compress --step "rtn b', path)).toBe('compress --step rtn bits=8');
  });
});
