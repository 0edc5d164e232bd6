/** What the page of a report says and draws, of reports made for it, in Chromium. */

import { writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ReportData } from '../src/report/data.ts';
import { reportHtml } from '../src/report/html.ts';
import { scratchFolder } from './command-line.ts';
import { chromium } from './engines/chromium.ts';
import type { Browser, Page } from './engines/pages.ts';
import { openBrowser } from './engines/pages.ts';
import { exampleReport } from './report-example.ts';

const scratch = scratchFolder();
afterAll(scratch.remove);

describe.skipIf(!chromium)(
  `a page in Chromium${chromium ? '' : ' (skipped: there is none; CHROMIUM may name one)'}`,
  () => {
    let browser: Browser;
    beforeAll(async () => {
      browser = await openBrowser();
    });
    afterAll(() => browser?.close());

    let pages = 0;
    async function open(reports: readonly ReportData[], card?: string): Promise<Page> {
      const file = scratch.path(`page-${++pages}.html`);
      writeFileSync(file, reportHtml(reports, card));
      return browser.open(file, { width: 1280, scheme: 'light' });
    }

    it('says so where nothing was measured, and has no figure for it', async () => {
      const { evaluation: _, speed: __, ...rest } = exampleReport;
      const { bytes, parameters, bitsPerWeight, multiplyAdds } = rest.compressed;
      const cost = { bytes, parameters, bitsPerWeight, multiplyAdds };
      const page = await open([{ ...rest, original: cost, compressed: cost }]);
      const seen = (await page.evaluate(`document.querySelector('main').innerText`)) as string;
      expect(seen).toContain('Nothing was measured');
      expect(seen).not.toMatch(/perplexity|undefined|NaN|null/i);
      expect(await page.evaluate('document.querySelectorAll("figure h3").length')).toBe(2);
      expect(page.problems).toEqual([]);
      await page.close();
    });

    /** A part of the example, larger and slower than what it was made of. */
    const worse: ReportData = {
      ...exampleReport,
      name: 'worse',
      compressed: { ...exampleReport.compressed, bytes: 1500 },
      speed: {
        original: { prefillTokensPerSecond: 2000, decodeTokensPerSecond: 200 },
        compressed: { prefillTokensPerSecond: 1000, decodeTokensPerSecond: 300 },
        engine: 'ONNX Runtime',
      },
      timings: { ...exampleReport.timings, finished: '2026-12-01T02:03:04.567Z' },
    };

    it('colours errors alike in all reports, and what hardly differs a little', async () => {
      const colours = async (errors: readonly number[]) => {
        const tensors = exampleReport.tensors.map((tensor, index) => ({ ...tensor, error: errors[index]! }));
        const page = await open([{ ...exampleReport, tensors }]);
        const found = await page.evaluate(
          `[...document.querySelectorAll('g[aria-label="cell"] rect')].map((cell) => getComputedStyle(cell).fill)`,
        );
        await page.close();
        return found as string[];
      };
      const [first, second, third, fourth] = await colours([0.001, 0.0012, 0.06, 1.5]);
      expect(new Set([first, second, third, fourth]).size).toBe(4);
      // Beyond the scale all are alike; else each is what it is elsewhere.
      expect(await colours([1.5, 0.06, 4, 0.001])).toEqual([fourth, third, fourth, first]);
    });

    it('fades what few tokens stand behind', async () => {
      const [first] = exampleReport.evaluation!.positions;
      const evaluation = (tokens: number) => ({
        ...exampleReport.evaluation!,
        positions: [first!, { ...first!, from: 21, to: 41, tokens }],
      });
      for (const [tokens, faint] of [
        [first!.tokens, 0],
        [1, 1],
      ] as const) {
        const page = await open([{ ...exampleReport, evaluation: evaluation(tokens) }]);
        const figure = `[...document.querySelectorAll('figure')].find((each) => each.textContent.includes('By position'))`;
        expect(await page.evaluate(`${figure}.querySelectorAll('g[aria-label="link"] path').length`)).toBe(
          faint,
        );
        expect(await page.evaluate(`${figure}.textContent.includes('Faint:')`)).toBe(faint > 0);
        await page.close();
      }
    });

    it('leads to the card where it stands beside one', async () => {
      const link = `document.querySelector('.facts a')?.getAttribute('href') ?? null`;
      const beside = await open([exampleReport], 'README.md#use');
      expect(await beside.evaluate(link)).toBe('README.md#use');
      const apart = await open([exampleReport]);
      expect(await apart.evaluate(link)).toBe(null);
    });

    it('says that a result is larger and slower, and when it was made', async () => {
      const page = await open([worse]);
      const seen = (await page.evaluate(`document.querySelector('main').innerText`)) as string;
      expect(seen).toContain('1.50 times larger, and the same next token');
      expect(seen).toContain('was 1.00 kB: 1.50× larger');
      expect(seen).toContain('was 2,000: 2.0× slower');
      expect(seen).toContain('was 200: 1.5× faster');
      expect(seen).toContain('2026-12-01 02:03 UTC');
      const marked = `[...document.querySelectorAll('.tile .worse')].map((each) => each.innerText)`;
      expect(await page.evaluate(marked)).toEqual(['was 1.00 kB: 1.50× larger', 'was 2,000: 2.0× slower']);
      await page.close();
    });

    it('shows answers that became others before those that only moved', async () => {
      const [token] = exampleReport.evaluation!.changed;
      const moved = { ...token!, kl: 2, compressed: { ...token!.compressed, top: token!.original.top } };
      const evaluation = { ...exampleReport.evaluation!, changed: [moved, token!] };
      const page = await open([{ ...exampleReport, evaluation }]);
      const found = `[...document.querySelectorAll('.tokens tbody .kl')].map((each) => each.textContent)`;
      expect(await page.evaluate(found)).toEqual(['KL 0.900', 'KL 2.00']);
      await page.close();
    });

    it('draws no line through runs of different models or texts, nor for what was not measured', async () => {
      const { evaluation: _, ...rest } = exampleReport;
      const { bytes, parameters, bitsPerWeight, multiplyAdds } = rest.compressed;
      const cost = { bytes, parameters, bitsPerWeight, multiplyAdds };
      const unmeasured: ReportData = {
        ...rest,
        name: 'unmeasured',
        original: { ...cost, bytes: 1000 },
        compressed: cost,
      };
      const moved = { ...exampleReport.original, nats: 2 };
      const elsewhere: ReportData = { ...exampleReport, name: 'other text', original: moved };
      const lines = async (...reports: ReportData[]) => {
        const page = await open(reports);
        const text = await page.evaluate(`document.querySelector('#comparison').innerText`);
        const onLine = await page.evaluate(
          `document.querySelectorAll('#comparison g[aria-label="line"] path').length`,
        );
        await page.close();
        return { text: text as string, onLine };
      };
      const compared = await lines(exampleReport, { ...worse, speed: exampleReport.speed }, unmeasured);
      expect(compared.onLine).toBe(1);
      expect(compared.text).toContain('● yes');
      expect(compared.text).toContain('–');
      const apart = await lines(exampleReport, elsewhere);
      expect(apart.onLine).toBe(0);
      expect(apart.text).not.toContain('yes');
      expect(apart.text).toContain('there is no line');
    });

    it('shows hostile names and tokens as text', async () => {
      const hostile = '</script><script>window.broken = 1</script><img src="x:" onerror="broken = 1">\u202e';
      const [changed] = exampleReport.evaluation!.changed;
      const answer = { top: hostile, probability: 0.5, target: 0.1 };
      const page = await open([
        {
          ...exampleReport,
          name: hostile,
          model: hostile,
          summary: hostile,
          notes: [hostile],
          tensors: exampleReport.tensors.map((tensor) => ({ ...tensor, kind: `${hostile}${tensor.kind}` })),
          evaluation: {
            ...exampleReport.evaluation!,
            changed: [
              { ...changed!, context: hostile, target: hostile, original: answer, compressed: answer },
            ],
          },
        },
      ]);
      expect(await page.evaluate('document.querySelector("h1").textContent')).toBe(hostile);
      expect(await page.evaluate('document.querySelector("mark").textContent')).toContain('<script>');
      expect(await page.evaluate('[typeof broken, document.images.length]')).toEqual(['undefined', 0]);
      expect(
        await page.evaluate('document.querySelector("mark [role=img][aria-label$=\'202E\']") !== null'),
      ).toBe(true);
      expect(page.problems).toEqual([]);
      expect(page.requests).toHaveLength(1);
      await page.close();
    });
  },
);
