/** The web page of the examples, as its head says; those of the library are in examples-library.test.ts. */

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, it } from 'vitest';
import { answer, scratchFolder } from './command-line.ts';
import { chromium, runInChromium } from './engines/chromium.ts';
import { engines, transformers } from './engines/transformers.ts';
import { writeShortPebble } from './models/checkpoint.ts';

const scratch = scratchFolder();
afterAll(scratch.remove);

const root = (name: string) => fileURLToPath(new URL(`../${name}`, import.meta.url));

const missing = chromium
  ? transformers
    ? ''
    : ' (skipped: run node test/engines/install.js)'
  : ' (skipped: there is no Chromium)';

it.skipIf(missing !== '')(`the web page loads a model and goes on with a text${missing}`, async () => {
  const site = scratch.path('site');
  mkdirSync(site);
  await writeShortPebble(scratch.path('model'));
  const args = ['compress', scratch.path('model'), '--for', 'wasm', '--out', join(site, 'models', 'wasm')];
  const { code, stderr } = await answer([...args, '--no-speed', '--no-answers']);
  expect(code, stderr).toBe(0);
  // The library comes from this machine, not from the address that the page has.
  const address = /"(https:[^"]+)"/;
  const page = readFileSync(root('examples/web/index.html'), 'utf8');
  expect(page).toMatch(address);
  writeFileSync(join(site, 'index.html'), page.replace(address, '"/site/library.js"'));
  writeFileSync(
    join(site, 'library.js'),
    `import { env } from '/transformers/transformers.min.js';
     env.backends.onnx.wasm.wasmPaths = '/wasm/';
     env.useBrowserCache = false;
     export * from '/transformers/transformers.min.js';`,
  );
  const found = await runInChromium(
    `const frame = document.createElement('iframe');
     frame.src = '/site/index.html';
     document.body.append(frame);
     const until = async (done) => { while (!done()) await new Promise((next) => setTimeout(next, 50)); };
     const at = (selector) => frame.contentDocument?.querySelector(selector);
     await until(() => at('button')?.disabled === false);
     at('button').click();
     await until(() => / s[.]$/.test(at('#state').textContent));
     return { state: at('#state').textContent, text: at('output').textContent };`,
    {
      site,
      transformers: join(engines, '@huggingface/transformers/dist'),
      wasm: join(engines, 'onnxruntime-web/dist'),
    },
  );
  expect(found).toMatchObject({
    state: expect.stringMatching(/^Runs on wasm, /),
    text: expect.stringMatching(/\w/),
  });
});
