/**
 * Builds what is not in the repository: the WebAssembly kernels, the page of the reports, and `dist/`. Does nothing where
 * they were built from these very sources already: npm runs `prepare` again whenever `npx lapidary` links a clone.
 * Run: node scripts/build.js [--force]
 */

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
/** Hash of the sources that the build is of. */
const stamp = join(root, 'dist', '.built');

const wanted = hashOfSources();
if (process.argv.includes('--force') || !isBuilt()) build();

function isBuilt() {
  const made = ['kernels/kernels.wasm', 'dist/index.js', 'dist/studio/report.html'];
  return (
    made.every((path) => existsSync(join(root, path))) &&
    existsSync(stamp) &&
    readFileSync(stamp, 'utf8') === wanted
  );
}

function build() {
  // What was built of files that are gone would stay.
  rmSync(join(root, 'dist'), { recursive: true, force: true });
  run('assemblyscript/bin/asc.js', ['kernels/index.ts', '--config', 'kernels/asconfig.json']);
  run('vite/bin/vite.js', ['build', 'studio', '--logLevel', 'warn']);
  run('typescript/bin/tsc', ['-p', 'tsconfig.build.json']);
  writeFileSync(stamp, wanted);
}

/**
 * @param {string} program under node_modules
 * @param {string[]} options
 */
function run(program, options) {
  const path = join(root, 'node_modules', program);
  const { status } = spawnSync(process.execPath, [path, ...options], { cwd: root, stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
}

/** Sources, settings and the versions of what builds them. */
function hashOfSources() {
  const hash = createHash('sha256');
  const folders = ['kernels', 'src', 'studio'].flatMap((folder) => filesIn(join(root, folder)));
  const settings = ['package-lock.json', 'tsconfig.json', 'tsconfig.build.json', 'scripts/build.js'];
  for (const path of [...folders, ...settings.map((name) => join(root, name))]) {
    const contents = readFileSync(path);
    hash.update(`${relative(root, path)}\0${contents.length}\0`).update(contents);
  }
  return hash.digest('hex');
}

/**
 * @param {string} folder
 * @returns {string[]} in one order everywhere
 */
function filesIn(folder) {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter(
      (entry) => entry.isFile() && !/\.(wasm|wat)$/.test(entry.name) && !entry.name.endsWith('.test.ts'),
    )
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
    .sort();
}
