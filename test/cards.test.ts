/** Model cards of runs, taken at their word: their examples are run as they stand, by the engines that they name. */

import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { openWeights, shipped } from '../src/open.ts';
import { answer, scratchFolder } from './command-line.ts';
import { chromium, runInChromium } from './engines/chromium.ts';
import { engines, transformers } from './engines/transformers.ts';
import { addChatTemplate, writeShortPebble } from './models/checkpoint.ts';

const scratch = scratchFolder();
afterAll(scratch.remove);

/** What a card says hangs on no speed and no answers. */
const quick = ['--no-speed', '--no-answers'];

beforeAll(async () => {
  cpSync(shipped.folder, scratch.path('base'), { recursive: true });
  await writeShortPebble(scratch.path('chat'));
  for (const name of ['base', 'chat']) {
    const terms = '---\nlicense: mit\nbase_model: org/original\n---\n';
    writeFileSync(join(scratch.path(name), 'README.md'), terms);
    writeFileSync(join(scratch.path(name), 'LICENSE'), 'Do as you like.');
  }
  addChatTemplate(scratch.path('chat'));
});

/** Compresses in the folder of all results, with names as a user's would be. @returns the card, and what was said. */
async function compressed(model: string, name: string, ...flags: string[]) {
  const out = join(scratch.path('results'), name);
  mkdirSync(scratch.path('results'), { recursive: true });
  const args = ['compress', scratch.path(model), '--out', out, ...quick, ...flags];
  const { code, stdout, stderr } = await answer(args);
  expect(code, stderr).toBe(0);
  return { card: readFileSync(join(out, 'README.md'), 'utf8'), stdout, out };
}

/** The code of a card's examples in a language, in their order. */
const examples = (card: string, language: string): string[] =>
  [...card.matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)\\n\`\`\`$`, 'gm'))].map(
    ([, code]) => code!,
  );

/** Runs an example as a file beside the folder that it loads. @param modules where what it imports is installed */
function inNode(code: string, folder: string, modules: string): string {
  const link = join(folder, 'node_modules');
  rmSync(link, { force: true });
  symlinkSync(modules, link, 'dir');
  writeFileSync(join(folder, 'use.mjs'), code);
  const { status, stdout, stderr } = spawnSync(process.execPath, ['use.mjs'], {
    cwd: folder,
    encoding: 'utf8',
  });
  expect(status, stderr).toBe(0);
  return stdout;
}

const inChromium = (code: string, folder: string): Promise<unknown> => {
  writeFileSync(join(folder, 'page.mjs'), code);
  // The engine's own WebAssembly comes from this machine, and what the example writes goes to the test.
  const script = `
    const { env } = await import('@huggingface/transformers');
    env.allowRemoteModels = false;
    env.useBrowserCache = false;
    env.backends.onnx.wasm.wasmPaths = '/wasm/';
    const said = [];
    console.log = (text) => said.push(text);
    await import('/models/page.mjs');
    return said.join('\\n');`;
  return runInChromium(script, {
    transformers: join(engines, '@huggingface/transformers/dist'),
    wasm: join(engines, 'onnxruntime-web/dist'),
    models: folder,
  });
};

const names = { base: 'base-onnx-rtn-4bit-g32', chat: 'chat-onnx-rtn-4bit-g32' };

describe.each(['base', 'chat'] as const)('the card of a %s model for transformers.js', (model) => {
  let card = '';
  let stdout = '';
  beforeAll(async () => {
    ({ card, stdout } = await compressed(model, names[model]));
  });
  const missing = transformers ? '' : ' (skipped: run node test/engines/install.js)';
  const noBrowser = chromium ? missing : ' (skipped: there is no Chromium)';
  const expected = model === 'base' ? /^Once upon a time,? there was/ : /\w+/;

  it.skipIf(!transformers)(`runs in Node${missing}`, () => {
    const said = inNode(examples(card, 'js')[0]!, scratch.path('results'), engines);
    expect(said).toMatch(expected);
    expect(said).not.toContain('user:');
  });

  it.skipIf(!transformers || !chromium)(`runs in a browser${noBrowser}`, async () => {
    const said = await inChromium(examples(card, 'js')[1]!, scratch.path('results'));
    expect(said).toMatch(expected);
    expect(said).not.toContain('user:');
  });

  it('is told on with the command that does the same here', () => {
    expect(stdout).toContain(model === 'chat' ? '"What is a lapidary?" --chat\n' : '"Once upon a time"\n');
  });

  it('says whose it is, under which terms, and how it is made again elsewhere', () => {
    const [, front, text] = card.split('---\n');
    expect(parse(front!)).toMatchObject({ license: 'mit', base_model: 'org/original' });
    expect(text).toContain('[org/original](https://huggingface.co/org/original), compressed with Lapidary');
    expect(text).toContain('`lapidary compress MODEL --recipe recipe.yaml`');
    expect(text).not.toContain('with plots');
    const license = join(scratch.path('results'), names[model], 'LICENSE');
    expect(readFileSync(license, 'utf8')).toBe('Do as you like.');
  });
});

describe('the card of a file that llama.cpp loads', () => {
  const flags = ['--format', 'gguf', '--type', 'Q8_0', '--fit', 'plain'];

  it('has a conversation for a model with a chat template, a completion for one without', async () => {
    const { card } = await compressed('base', 'base-gguf', ...flags);
    const file = './base-gguf/base-Q8_0.gguf';
    expect(examples(card, 'sh')[0]).toContain(`llama-completion -m ${file} -no-cnv -p "Once upon a time"`);
    const { card: other, out } = await compressed('chat', 'chat-gguf', ...flags);
    expect(examples(other, 'sh')[0]).toContain('llama-cli -m ./chat-gguf/chat-Q8_0.gguf -p "What is a');
    expect(readFileSync(join(out, 'LICENSE'), 'utf8')).toBe('Do as you like.');
  });

  it('names the license of a lone file, by its metadata and by what is its own beside it', async () => {
    const path = join(scratch.path('results'), 'base-gguf', 'base-Q8_0.gguf');
    expect(await openWeights(path)).toMatchObject({
      origin: { license: 'mit', baseModel: 'org/original' },
    });
    const { model } = await openWeights(path);
    expect([...model!.files.keys()]).toContain('LICENSE');
    // In a folder without a card nobody knows whose the LICENSE is.
    mkdirSync(scratch.path('apart'));
    cpSync(path, scratch.path('apart/base.gguf'));
    writeFileSync(scratch.path('apart/LICENSE'), "Somebody's.");
    const apart = await openWeights(scratch.path('apart/base.gguf'));
    expect(apart).toMatchObject({ origin: { license: 'mit', baseModel: 'org/original' } });
    expect([...apart.model!.files.keys()]).not.toContain('LICENSE');
  });
});

describe('the card of a folder that vLLM or mlx-lm loads', () => {
  const file = ['--embedding-bits', '16', '--bits', '4', '--group', '32'];

  it('has requests with messages for a model with a chat template, a prompt for one without', async () => {
    const requests = async (model: string) => {
      const { card } = await compressed(model, `${model}-vllm`, '--format', 'compressed-tensors', ...file);
      const [serve, request] = examples(card, 'sh');
      expect(serve).toBe(`vllm serve ./${model}-vllm`);
      return request;
    };
    expect(await requests('base')).toContain('"prompt":"Once upon a time"');
    expect(await requests('chat')).toContain('"messages":[{"role":"user","content":"What is a lapidary?"}]');
  });

  it("names vLLM for what it takes of GPTQ's format, GPTQModel for the rest", async () => {
    const loaded = await compressed('base', 'gptq-4', '--format', 'gptq', '--symmetric', ...file);
    expect(loaded.card).toContain('vllm serve ./gptq-4');
    const other = await compressed('base', 'gptq-zeros', '--format', 'gptq', '--no-symmetric', ...file);
    expect(other.card).not.toContain('vllm serve');
    expect(other.card).toContain('GPTQModel.load("./gptq-zeros")');
  });

  it('has a conversation for mlx-lm', async () => {
    const { card } = await compressed('chat', 'chat-mlx', '--format', 'mlx', '--bits', '4', '--group', '32');
    expect(card).toContain('mlx_lm.chat --model ./chat-mlx');
  });
});
