import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { findLlama } from './find.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'lapidary-find-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** A package of that name whose module is this. */
function install(source: string): void {
  const home = join(folder, 'node_modules', 'node-llama-cpp');
  mkdirSync(home, { recursive: true });
  const definition = { name: 'node-llama-cpp', version: '9.8.7', type: 'module', exports: './index.js' };
  writeFileSync(join(home, 'package.json'), JSON.stringify(definition));
  writeFileSync(join(home, 'index.js'), source);
}

describe('llama.cpp', () => {
  it('is not there where nobody has installed it', async () => {
    expect(await findLlama({ from: folder })).toEqual({
      missing: expect.stringMatching(/^node-llama-cpp is not installed \(npm install node-llama-cpp\)$/),
    });
  });

  it('is not there where its build for this machine is missing', async () => {
    install(
      'export const LlamaLogLevel = {}; export const getLlama = () => Promise.reject(Error("no binary"));',
    );
    const missing = 'node-llama-cpp 9.8.7 does not run here: no binary';
    expect(await findLlama({ from: folder })).toEqual({ missing });
  });

  it('is not there where it ends its process', async () => {
    install('console.error("illegal instruction"); process.exit(132);');
    const missing =
      'node-llama-cpp 9.8.7 does not run here: its process ended with exit code 132: illegal instruction';
    expect(await findLlama({ from: folder })).toEqual({ missing });
  });
});
