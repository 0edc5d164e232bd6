/**
 * Runs a checker on the files that belong to the project: what somebody makes in a clone, such as a compressed model, is
 * nobody's source. Run: node scripts/tracked.js PATTERN PROGRAM [OPTIONS]
 *   PATTERN  what file names must match, as a regular expression
 *   PROGRAM  under node_modules: "prettier/bin/prettier.cjs"
 */

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const [pattern, program, ...options] = process.argv.slice(2);
const listed = spawnSync('git', ['ls-files', '-z', '--deduplicate'], { cwd: root, encoding: 'utf8' });
if (listed.status !== 0) {
  console.error(`git does not list the project's files: ${listed.stderr || listed.error?.message}`);
  process.exit(1);
}
const files = listed.stdout
  .split('\0')
  .filter((name) => name !== '' && new RegExp(pattern).test(name) && existsSync(join(root, name)));

// A command line has room for some 32,000 characters on Windows.
const atOnce = 250;
let failed = false;
for (let start = 0; start < files.length; start += atOnce) {
  const { status } = spawnSync(
    process.execPath,
    [join(root, 'node_modules', program), ...options, ...files.slice(start, start + atOnce)],
    { cwd: root, stdio: 'inherit' },
  );
  failed ||= status !== 0;
}
if (failed) process.exit(1);
