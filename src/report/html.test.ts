import { describe, expect, it } from 'vitest';
import { isOurPage, reportHtml } from './html.ts';
import { exampleReport } from '../../test/report-example.ts';

const dataOf = (html: string) =>
  JSON.parse(/<script type="application\/json" id="reports"[^>]*>(.*?)<\/script>/s.exec(html)![1]!);

describe('the page of a report', () => {
  it('holds the data whole, in one file that may not use the network', () => {
    const html = reportHtml([exampleReport]);
    expect(dataOf(html)).toEqual([exampleReport]);
    expect(html).toContain(`default-src 'none'`);
    expect(html).not.toMatch(/<(script|link|img|iframe)[^>]*\s(src|href)="(?!data:)/);
    expect(isOurPage(html)).toBe(true);
    expect(isOurPage('<html><title>mine</title>')).toBe(false);
  });

  it.each([
    '</script><script>alert(1)</script>',
    '<!-- <script>',
    ']]>',
    '%TITLE% %REPORTS%',
    "$& $' $`",
    '\u2028\u202e"\\',
  ])('takes %j as text, wherever it stands', (hostile) => {
    const report = {
      ...exampleReport,
      name: hostile,
      notes: [hostile],
      reproduction: [[hostile, hostile]] as const,
    };
    const html = reportHtml([report, report]);
    expect(dataOf(html)).toEqual([report, report]);
    const one = reportHtml([report]);
    expect(one.match(/<\/?script/g)).toEqual(reportHtml([exampleReport]).match(/<\/?script/g));
    const title = /<title>(.*?)<\/title>/s.exec(one)![1]!;
    expect(title).not.toContain('<');
    expect(title.replaceAll('&lt;', '<').replaceAll('&amp;', '&')).toBe(`${hostile} · Lapidary`);
  });

  it('allows exactly the script that it has', async () => {
    const html = reportHtml([exampleReport]);
    const [, code] = /<script type="module">(.*?)<\/script>/s.exec(html)!;
    const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(code));
    expect(html).toContain(`script-src 'sha256-${Buffer.from(digest).toString('base64')}'`);
  });
});
