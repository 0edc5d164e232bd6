/**
 * Fenced blocks of the documentation, and what runs them. A comment right before a block says what it takes:
 * nothing: `sh` are commands of ours, `js` and `ts` in Node, in the order of the page, in one folder;
 * "file: NAME": is written there; "browser": in Chromium; "llama.cpp": in Node, with node-llama-cpp; "not run: REASON": not at all.
 */

import { spawnSync } from 'node:child_process';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { answer } from './command-line.ts';
import { runInChromium } from './engines/chromium.ts';
import { llamaFolder } from './engines/llama/llama.ts';
import { engines } from './engines/transformers.ts';

export interface Block {
  readonly language: string;
  readonly code: string;
  /** Line of the page that it begins at. */
  readonly line: number;
  /** What the comment before it says. */
  readonly note: string;
}

export function blocksOf(page: string): readonly Block[] {
  const found = page.matchAll(/(?:<!-- ([^\n]*?) -->\n\n?)?^```(\w+)[^\n]*\n([\s\S]*?)^```$/gm);
  return [...found].map(([all, note = '', language, code]) => {
    const before = page.slice(0, page.indexOf(all));
    return { language: language!, code: code!, line: before.split('\n').length, note };
  });
}

/** Languages of blocks that do something. */
export const runs = ['sh', 'js', 'ts', 'python'];

/** A folder as a reader's would be, with the packages that pages import. */
export function prepareFolder(folder: string): void {
  const packages = join(folder, 'node_modules');
  mkdirSync(join(packages, '@huggingface'), { recursive: true });
  const links = {
    lapidary: fileURLToPath(new URL('..', import.meta.url)),
    '@huggingface/transformers': join(engines, '@huggingface/transformers'),
    'node-llama-cpp': join(llamaFolder, 'node_modules', 'node-llama-cpp'),
  };
  for (const [name, target] of Object.entries(links)) symlinkSync(target, join(packages, name), 'dir');
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
}

/** The words of each command of a block of a shell: quoted ones, without comments, over lines that end in a backslash. */
export function commandsOf(code: string): readonly (readonly string[])[] {
  const lines = code.replaceAll(/\\\n\s*/g, '').split('\n');
  return lines
    .map((line) =>
      [...line.replace(/(^|\s)#.*$/, '').matchAll(/"([^"]*)"|'([^']*)'|([^\s"']+)/g)].map(
        ([, double, single, plain]) => double ?? single ?? plain!,
      ),
    )
    .filter((words) => words.length > 0);
}

/**
 * Runs the commands of a shell's block by the command line itself, in a folder; speeds, which take longest, are left out.
 * @throws Error on what is no command of ours, and with what is said of one that fails
 */
export async function runCommands({ code, line }: Block, folder: string): Promise<void> {
  const before = process.cwd();
  process.chdir(folder);
  try {
    for (const [npx, name, ...args] of commandsOf(code)) {
      if (npx !== 'npx' || name !== 'lapidary')
        throw new Error(`line ${line}: ${npx} ${name} cannot be run here`);
      const quick = args[0] === 'compress' ? ['--no-speed', '--no-answers'] : [];
      const { code, stderr } = await answer([...args, ...quick]);
      if (code !== 0) throw new Error(`line ${line}, exit code ${code}: ${args.join(' ')}\n${stderr}`);
    }
  } finally {
    process.chdir(before);
  }
}

/** Runs a script's block in Node. @returns what it writes to standard output */
export function runScript({ language, code, line, note }: Block, folder: string): string {
  const file = `block-${line}.${language === 'ts' ? 'ts' : 'mjs'}`;
  writeFileSync(join(folder, file), code);
  const before = [
    ...(language === 'ts' ? [import.meta.resolve('tsx')] : []),
    ...(note === 'llama.cpp' ? [pathToFileURL(join(llamaFolder, 'one-thread.js')).href] : []),
  ].flatMap((module) => ['--import', module]);
  const { status, stdout, stderr } = spawnSync(process.execPath, [...before, file], {
    cwd: folder,
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`line ${line}, exit code ${status}:\n${code}\n${stderr.slice(-2000)}`);
  return stdout;
}

/** @returns what it writes to the console, in a page of a site that has the folder below /models/ */
export function runInPage({ code, line }: Block, folder: string): Promise<unknown> {
  writeFileSync(join(folder, `page-${line}.mjs`), code);
  // The engine's own WebAssembly comes from this machine, and what the block writes goes to the test.
  const script = `
    const { env } = await import('@huggingface/transformers');
    env.allowRemoteModels = false;
    env.useBrowserCache = false;
    env.backends.onnx.wasm.wasmPaths = '/wasm/';
    const said = [];
    console.log = (text) => said.push(text);
    await import('/models/page-${line}.mjs');
    return said.join('\\n');`;
  return runInChromium(script, {
    transformers: join(engines, '@huggingface/transformers/dist'),
    wasm: join(engines, 'onnxruntime-web/dist'),
    models: folder,
  });
}
