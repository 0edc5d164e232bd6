/** Tests of pages in Chromium: one browser for all of them, skipped where there is none. */

import { mkdtempSync, rmSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe } from 'vitest';
import { chromium } from './chromium.ts';
import type { Browser, Page, PageOptions } from './pages.ts';
import { openBrowser } from './pages.ts';

/** Opens HTML as a file of its own; light and 1280 pixels wide unless it is said. */
export type Open = (html: string, options?: Partial<PageOptions>) => Promise<Page>;

/** Tests of pages in one browser, skipped where there is none; each page is closed behind its test. */
export function describePages(what: string, tests: (open: Open) => void): void {
  const skipped = chromium ? '' : ' (skipped: there is none; CHROMIUM may name one)';
  describe.skipIf(!chromium)(`${what} in Chromium${skipped}`, () => {
    let browser: Browser;
    const folder = mkdtempSync(join(tmpdir(), 'lapidary-html-'));
    const pages: Page[] = [];
    let count = 0;
    beforeAll(async () => {
      browser = await openBrowser();
    });
    afterEach(async () => {
      for (const page of pages.splice(0)) await page.close();
    });
    afterAll(async () => {
      await browser?.close();
      rmSync(folder, { recursive: true, force: true });
    });
    tests(async (html, options = {}) => {
      const file = join(folder, `page-${++count}.html`);
      await writeFile(file, html);
      const page = await browser.open(file, { width: 1280, scheme: 'light', ...options });
      pages.push(page);
      return page;
    });
  });
}
