/** What is published: nothing that its README points at is missing from it, and nothing that only makes it is in it. */

import { spawnSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { posix } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));

/** What people read, by its path from the root. */
const pages = [
  'README.md',
  'CONTRIBUTING.md',
  'CHANGELOG.md',
  ...readdirSync(posix.join(root, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name.replaceAll('\\', '/')}`),
];

interface Packed {
  readonly files: readonly { readonly path: string }[];
}

describe('the package', () => {
  let files: ReadonlySet<string>;
  beforeAll(() => {
    const { stdout, stderr } = spawnSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], {
      cwd: root,
      encoding: 'utf8',
      shell: process.platform === 'win32',
    });
    const found: unknown = JSON.parse(stdout || `"${stderr}"`);
    // A list until npm 11, from 12 on an object by package.
    const [packed] = Object.values(found as Record<string, Packed>);
    files = new Set(packed.files.map(({ path }) => path));
  });

  it('holds program, types, kernels, the model that ships and the page of reports', () => {
    const needed = ['bin/lapidary.js', 'dist/index.js', 'dist/index.d.ts', 'dist/studio/report.html'];
    for (const path of [
      ...needed,
      'kernels/kernels.wasm',
      'models/pebble/model.safetensors',
      'schema/recipe.json',
      'LICENSE',
    ])
      expect(files).toContain(path);
  });

  it('holds no tests, sources or benches', () => {
    const strange = [...files].filter((path) => /^(src|test|bench|scripts|studio)\/|\.test\./.test(path));
    expect(strange).toEqual([]);
  });

  it.each(pages)('%s links to nothing that is not there', (page) => {
    const text = readFileSync(`${root}/${page}`, 'utf8');
    const links = [...text.matchAll(/\]\(([^)#\s]+)[^)]*\)/g)].map(([, target]) => target!);
    const missing = links
      .filter((target) => !/^[a-z]+:/.test(target))
      .map((target) => posix.join(posix.dirname(page), target).replace(/\/$/, ''))
      .filter((target) => ![...files].some((path) => path === target || path.startsWith(`${target}/`)));
    expect(missing).toEqual([]);
  });

  it('says where it is at home', () => {
    const manifest = JSON.parse(readFileSync(`${root}/package.json`, 'utf8')) as Record<string, unknown>;
    for (const field of ['repository', 'homepage', 'bugs', 'license']) expect(manifest[field]).toBeTruthy();
  });
});
