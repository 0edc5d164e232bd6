/**
 * Makes docs/report.png, the picture of a report that the README shows, from a real run of the model that ships.
 * Run: npx tsx scripts/docs/picture.ts [FOLDER]   (FOLDER: of a run that was made already)
 * Needs Chromium, and `npm run build` before.
 */

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { openBrowser } from '../../test/engines/pages.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const out = join(root, 'docs/report.png');
const scratch = mkdtempSync(join(tmpdir(), 'lapidary-picture-'));
try {
  const folder = process.argv[2] === undefined ? join(scratch, 'pebble-4bit') : resolve(process.argv[2]);
  if (process.argv[2] === undefined) {
    const args = [join(root, 'bin/lapidary.js'), 'compress', '--out', folder];
    const { status } = spawnSync(process.execPath, args, { stdio: 'inherit' });
    if (status !== 0) throw new Error(`lapidary compress ended with exit code ${status}`);
  }
  const browser = await openBrowser();
  const page = await browser.open(join(folder, 'report.html'), { width: 1000, scheme: 'light' });
  await page.screenshot(out, 1560);
  await browser.close();
  console.log(`docs/report.png, ${statSync(out).size} bytes`);
} finally {
  rmSync(scratch, { recursive: true });
}
