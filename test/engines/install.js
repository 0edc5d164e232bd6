/**
 * Installs the engines that only the tests need, when they are not there yet. Runs before `npm test`; the first
 * install stays small. Needs the root's `npm ci` before it: transformers.js shares its onnxruntime-node.
 */

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));

install(here, []);
// Its package has no other platforms' builds; and its CUDA and Vulkan builds are optional ones.
if (process.platform === 'linux' && process.arch === 'x64') install(join(here, 'llama'), ['--omit=optional']);

/**
 * @param {string} folder
 * @param {string[]} options
 */
function install(folder, options) {
  const stamp = join(folder, 'node_modules', '.installed');
  const wanted = createHash('sha256')
    .update(readFileSync(join(folder, 'package-lock.json')))
    .digest('hex');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return;
  const npm = process.env.npm_execpath;
  const [command, before] = npm ? [process.execPath, [npm]] : ['npm', []];
  // --prefix by itself would leave npm_config_* of the outer `npm test` in charge; the working folder decides.
  const environment = Object.fromEntries(
    Object.entries(process.env).filter(
      ([key]) => !/^npm_(package|lifecycle)_|^npm_config_(local_)?prefix$/.test(key),
    ),
  );
  const { status, error } = spawnSync(
    command,
    [...before, 'ci', ...options, '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'],
    { cwd: folder, env: environment, stdio: ['ignore', 2, 2] },
  );
  if (error || status !== 0) {
    console.error(`${folder}: npm ci failed (${error?.message ?? `exit code ${status}`}); the tests need it`);
    process.exit(1);
  }
  writeFileSync(stamp, wanted);
}
