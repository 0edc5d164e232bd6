/** Documentation that people read says what is so: its lines are run as they stand, on a small model. */

import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { methodsPage } from '../scripts/docs/methods-page.ts';
import { scratchFolder, writeStories } from './command-line.ts';
import type { Block } from './doc-blocks.ts';
import { blocksOf, prepareFolder, runCommands, runInPage, runs, runScript } from './doc-blocks.ts';
import { chromium } from './engines/chromium.ts';
import { hasLlama } from './engines/llama/llama.ts';
import { transformers } from './engines/transformers.ts';
import { writeShortPebble } from './models/checkpoint.ts';

const scratch = scratchFolder();
afterAll(scratch.remove);

it('docs/methods.md is what the methods say of themselves (else: npx tsx scripts/docs/methods.ts)', async () => {
  expect(readFileSync('docs/methods.md', 'utf8')).toBe(await methodsPage());
});

const pages = [
  'README.md',
  ...readdirSync('docs', { recursive: true, encoding: 'utf8' })
    .map((name) => join('docs', name))
    .filter((path) => path.endsWith('.md') && !path.includes('lab')),
];
const blocks = new Map(pages.map((path) => [path, blocksOf(readFileSync(path, 'utf8'))]));
const isRun = ({ language, note }: Block) =>
  note.startsWith('file: ') || (runs.includes(language) && !note.startsWith('not run'));

describe.each([...blocks].filter(([, own]) => own.some(({ language }) => runs.includes(language))))(
  '%s',
  (path, own) => {
    it('says why of each block that is not run', () => {
      for (const { language, note, line } of own) {
        const known = note === '' || /^(browser|llama[.]cpp|file: [\w.]+|not run: .{8,})$/.test(note);
        expect(known, `line ${line}: ${note}`).toBe(true);
        if (language === 'python') expect(note, `line ${line}`).toMatch(/^not run/);
      }
    });

    it.skipIf(spawnSync('python3', ['--version']).status !== 0)('has Python that can be read', () => {
      for (const { language, code, line } of own) {
        if (language !== 'python') continue;
        const { status, stderr } = spawnSync(
          'python3',
          ['-c', 'import ast, sys; ast.parse(sys.stdin.read())'],
          {
            input: code,
            encoding: 'utf8',
          },
        );
        expect(status, `line ${line}: ${stderr}`).toBe(0);
      }
    });

    // The examples of methods are tried by the test of `lapidary methods`; whole runs of all would take minutes.
    const isTried = path === join('docs', 'methods.md');
    it.skipIf(isTried || !own.some(isRun))('runs as it stands', async () => {
      const folder = scratch.path(path.replaceAll(/\W/g, '-'));
      mkdirSync(folder);
      prepareFolder(folder);
      // The lines count, and the widths that they ask for; not depth, nor how much text.
      await writeShortPebble(join(folder, 'my-model'), 1);
      writeStories(join(folder, 'text.jsonl'), 5);
      for (const block of own.filter(isRun)) {
        if (block.note.startsWith('file: ')) writeFileSync(join(folder, block.note.slice(6)), block.code);
        else if (block.language === 'sh') await runCommands(block, folder);
        else if (block.note === 'browser') {
          if (chromium && transformers) expect(await runInPage(block, folder)).toMatch(/\w/);
        } else if (block.note === 'llama.cpp' ? hasLlama : transformers)
          expect(runScript(block, folder)).toMatch(/\w/);
      }
    });
  },
);
