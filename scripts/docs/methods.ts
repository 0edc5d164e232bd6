/**
 * Writes docs/methods.md from what the methods declare of themselves and what formats say to them.
 * Run: npx tsx scripts/docs/methods.ts [--check]
 *   --check  writes nothing, and fails when the page is not what it would write
 */

import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { methodsPage } from './methods-page.ts';

const path = fileURLToPath(new URL('../../docs/methods.md', import.meta.url));
const page = await methodsPage();
if (!process.argv.includes('--check')) writeFileSync(path, page);
else if (readFileSync(path, 'utf8') !== page) {
  console.error('docs/methods.md is out of date: run npx tsx scripts/docs/methods.ts');
  process.exitCode = 1;
}
