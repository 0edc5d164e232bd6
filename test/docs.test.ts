/** Documentation that people read says what is so. */

import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { methodsPage } from '../scripts/docs/methods-page.ts';

it('docs/methods.md is what the methods say of themselves (else: npx tsx scripts/docs/methods.ts)', async () => {
  expect(readFileSync('docs/methods.md', 'utf8')).toBe(await methodsPage());
});
