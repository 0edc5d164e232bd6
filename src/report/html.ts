/**
 * report.html: the page that the studio's build left, with the data of one run or of several inside. One file that
 * needs no network. Texts of models and tokens are data in it, never markup.
 */

import { readFileSync } from 'node:fs';
import { LapidaryError } from '../base/errors.ts';
import type { ReportData } from './schema.ts';

/** From here and from where this file is compiled to alike. */
const template = new URL('../../dist/studio/report.html', import.meta.url);

/**
 * @param reports one: the page of that run; several: a comparison, with the page of each
 * @param card the model card, as a link from where the page will stand; without it none is linked
 * @throws LapidaryError where the studio was not built
 */
export function reportHtml(reports: readonly ReportData[], card = ''): string {
  const [first] = reports;
  const title = reports.length === 1 ? first!.name : `${reports.length} runs compared`;
  // In a script element only "<" can end or begin anything.
  const data = JSON.stringify(reports).replaceAll('<', '\\u003c');
  const parts: Readonly<Record<string, string>> = {
    '%TITLE%': `${escaped(title)} · Lapidary`,
    '%CARD%': escaped(card).replaceAll('"', '&quot;'),
    '%REPORTS%': data,
  };
  // In one go: a name may look like a part.
  return emptyPage().replace(/%(TITLE|CARD|REPORTS)%/g, (part) => parts[part]!);
}

/** Whether a file is such a page, which may be replaced by a newer one. */
export function isOurPage(html: string): boolean {
  return /<meta name="generator" content="Lapidary"/.test(html.slice(0, 2000));
}

/** The page without data. @throws LapidaryError where the studio was not built */
export function emptyPage(): string {
  try {
    return readFileSync(template, 'utf8');
  } catch (cause) {
    throw new LapidaryError({
      what: 'the page of the report was not built',
      where: 'dist/studio/report.html',
      fix: 'run npm run build',
      cause,
    });
  }
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
}
