import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, expect, it } from 'vitest';
import { scratchFolder } from './command-line.ts';

const scratch = scratchFolder();
afterAll(scratch.remove);

it('the library example runs and says what was saved and what was lost', async () => {
  const path = (name: string) => fileURLToPath(new URL(`../${name}`, import.meta.url));
  const args = ['--import', 'tsx', path('examples/compress.ts'), scratch.path('small')];
  // As users run it: with the package, not with the sources that types are checked by.
  const env = { ...process.env, TSX_TSCONFIG_PATH: path('tsconfig.build.json') };
  const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: path('.'), env });
  expect(stdout).toMatch(/\d+ bytes became \d+\nKL divergence 0\.\d+, perplexity \d/);
  expect(stdout).toContain('Once upon a time');
});
