/** The examples run as their users run them: with the package, not with the sources that types are checked by. */

import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, it } from 'vitest';
import { scratchFolder } from './command-line.ts';
import { addChatTemplate, writeTinyCheckpoint } from './models/checkpoint.ts';

const scratch = scratchFolder();
afterAll(scratch.remove);

const path = (name: string) => fileURLToPath(new URL(`../${name}`, import.meta.url));

/** @returns what it says; @param input of its terminal */
async function run(name: string, args: readonly string[], input = ''): Promise<string> {
  const env = { ...process.env, TSX_TSCONFIG_PATH: path('tsconfig.build.json') };
  const child = spawn(process.execPath, ['--import', 'tsx', path(`examples/${name}`), ...args], {
    cwd: path('.'),
    env,
  });
  child.stdin.end(input);
  const [said, complained, code] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    new Promise((resolve) => child.on('close', resolve)),
  ]);
  expect(code, complained).toBe(0);
  return said;
}

it('compress.ts says what was chosen, what was saved and what was lost, and writes', async () => {
  const said = await run('compress.ts', [scratch.path('small')]);
  expect(said).toMatch(
    /^Chosen: gptq, rtn \(.+\)\n\d+ bytes became \d+\nKL divergence 0\.\d+, perplexity \d/,
  );
  expect(said).toMatch(/\nOnce upon a time,? \w+/);
});

it('compare.ts shows two recipes beside the original, and writes the page of both', async () => {
  const folder = scratch.path('compared');
  const lines = (await run('compare.ts', [folder])).trim().split('\n');
  expect(lines).toHaveLength(4);
  const losses = lines.slice(0, 3).map((line) => Number(/KL (\S+)$/.exec(line)?.[1]));
  expect(losses[0]).toBe(0);
  expect(losses[1]).toBeGreaterThan(losses[2]!);
  expect(existsSync(`${folder}/report.html`)).toBe(true);
});

it('chat.ts answers each line, and reads no turn twice', async () => {
  const model = scratch.path('chatty');
  await writeTinyCheckpoint(model, { num_hidden_layers: 1, max_position_embeddings: 1024 });
  addChatTemplate(model);
  const said = await run('chat.ts', [model], 'Who are you?\nAnd now?\n');
  const turns = [...said.matchAll(/\((\d+) tokens read, (\d+) of them before\)/g)];
  const [[first, none], [second, known]] = turns.map(([, read, before]) => [Number(read), Number(before)]);
  expect(turns).toHaveLength(2);
  expect(none).toBe(0);
  expect(known).toBeGreaterThanOrEqual(first!);
  expect(second).toBeGreaterThan(known!);
});
