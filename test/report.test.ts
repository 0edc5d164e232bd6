/** The report that people look at: what runs leave, what the command makes of several, and the page in Chromium. */

import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ReportData } from '../src/report/data.ts';
import { parseReport } from '../src/report/data.ts';
import { reportHtml } from '../src/report/html.ts';
import { answer, lapidary, scratchFolder } from './command-line.ts';
import { describePages } from './engines/describe-pages.ts';

const scratch = scratchFolder();
afterAll(scratch.remove);

const [gptq, other] = [scratch.path('pebble-gptq'), scratch.path('pebble-other')];
const readReport = (run: string): ReportData => {
  const path = join(run, 'report.json');
  return parseReport(readFileSync(path, 'utf8'), path);
};
const dataOf = (page: string): unknown =>
  JSON.parse(
    /<script type="application\/json" id="reports"[^>]*>(.*?)<\/script>/s.exec(
      readFileSync(page, 'utf8'),
    )![1]!,
  );

beforeAll(async () => {
  const sizes = ['--sequences', '4', '--length', '64'];
  const { code, stderr } = await lapidary(['compress', '--method', 'gptq', '--out', gptq, ...sizes]);
  expect(code, stderr).toBe(0);
  // A second one that differs in what comparisons show.
  const report = readReport(gptq);
  const { compressed, tensors } = report;
  const kl = { ...compressed.kl!, mean: 3 * compressed.kl!.mean, high: 4 * compressed.kl!.mean };
  const worse = tensors.map((tensor) => (tensor.error ? { ...tensor, error: 3 * tensor.error } : tensor));
  mkdirSync(other);
  writeFileSync(
    join(other, 'report.json'),
    JSON.stringify({ ...report, name: 'pebble-other', compressed: { ...compressed, kl }, tensors: worse }),
  );
});

describe('a compress run', () => {
  it('leaves its report as data', () => {
    const report = readReport(gptq);
    expect(report.tensors.filter(({ method }) => method === 'gptq')).toHaveLength(7 * 6);
    expect(report.evaluation!.changed).toHaveLength(50);
    const tokens = report.evaluation!.sequences.reduce((sum, { tokens }) => sum + tokens, 0);
    expect(tokens).toBe(report.compressed.tokens);
    expect(report.files[0]!.bytes).toBe(statSync(join(gptq, report.files[0]!.path)).size);
  });

  it('leaves it as a page, of the same data, which the model card links and which links the card', () => {
    expect(dataOf(join(gptq, 'report.html'))).toEqual([readReport(gptq)]);
    expect(readFileSync(join(gptq, 'README.md'), 'utf8')).toContain('report.html');
    expect(readFileSync(join(gptq, 'report.html'), 'utf8')).toContain('data-card="README.md#use"');
  });
});

describe('lapidary report', () => {
  const out = scratch.path('comparison.html');

  it('writes one page of several runs, and a table', async () => {
    const { code, stdout } = await lapidary(['report', gptq, join(other, 'report.json'), '--out', out]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/pebble-gptq +3\.\d+ MB/);
    expect(stdout).toMatch(/pebble-other +3\.\d+ MB/);
    expect(stdout).toContain(out);
    expect(dataOf(out)).toEqual([readReport(gptq), readReport(other)]);
  });

  it('replaces a page of its own and no other file', async () => {
    expect((await answer(['report', gptq, '--out', out])).code).toBe(0);
    expect(dataOf(out)).toEqual([readReport(gptq)]);
    const mine = scratch.path('mine.html');
    writeFileSync(mine, '<title>mine</title>');
    const { code, stderr } = await answer(['report', gptq, '--out', mine]);
    expect(code).toBe(2);
    expect(stderr).toContain('--overwrite');
    expect(readFileSync(mine, 'utf8')).toBe('<title>mine</title>');
    const { code: overwritten, stdout } = await answer([
      'report',
      gptq,
      '--out',
      mine,
      '--overwrite',
      '--json',
    ]);
    expect(overwritten).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ out: mine, runs: [{ name: 'pebble-gptq' }] });
  });

  it('says which of its arguments is not a run, and writes nothing', async () => {
    const empty = scratch.path('empty');
    mkdirSync(empty);
    const json = scratch.path('other.json');
    writeFileSync(json, '{"format": "safetensors"}');
    const nothing = scratch.path('nothing.html');
    for (const [run, message] of [
      [empty, 'no report.json'],
      [json, 'not a report'],
      [scratch.path('missing'), 'no such file'],
    ] as const) {
      const { code, stderr } = await answer(['report', gptq, run, '--out', nothing]);
      expect(code).toBe(3);
      expect(stderr).toContain(run);
      expect(stderr).toContain(message);
    }
    expect(existsSync(nothing)).toBe(false);
    const { stderr } = await answer(['report', dirname(gptq), '--out', nothing]);
    expect(stderr, 'the folder above the runs').toContain(`name the runs in it: ${gptq} ${other}`);
    expect((await answer(['report', empty])).stderr).not.toContain('compress again');
  });
});

/** Of two colours as the browser computes them, "rgb(1, 2, 3)": WCAG 2.2, contrast ratio. */
function contrast(a: string, b: string): number {
  const luminance = (colour: string) => {
    const [red, green, blue] = colour.match(/[\d.]+/g)!.map((part) => {
      const value = Number(part) / 255;
      return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red! + 0.7152 * green! + 0.0722 * blue!;
  };
  const [light, dark] = [luminance(a), luminance(b)].sort((x, y) => y - x) as [number, number];
  return (light + 0.05) / (dark + 0.05);
}

/** Everything that the page shows and can be counted or measured. */
const look = `(() => {
  const box = (element) => element.getBoundingClientRect();
  const count = (selector) => document.querySelectorAll(selector).length;
  const style = (selector, property) => getComputedStyle(document.querySelector(selector))[property];
  const outside = [...document.querySelectorAll('figure:has(h3)')].flatMap((figure) =>
    [...figure.querySelectorAll('.plot:not(.scrolls) svg text')]
      .filter((text) => box(text).left < box(figure).left || box(text).right > box(figure).right)
      .map((text) => figure.querySelector('h3').textContent + ': ' + text.textContent));
  return {
    width: document.documentElement.scrollWidth,
    figures: [...document.querySelectorAll('figure h3')].map((title) => title.textContent),
    marks: [...document.querySelectorAll('figure:has(h3)')].map((figure) =>
      figure.querySelectorAll('g[aria-label] :is(rect, circle, path)').length),
    outside,
    cells: count('g[aria-label="cell"] rect'),
    bars: count('g[aria-label="bar"] rect'),
    tokens: count('.tokens tbody tr:not(.group)'),
    unnamed: count('figure svg[role="img"]:not([aria-label])') + count('button:empty'),
    background: getComputedStyle(document.body).backgroundColor,
    texts: ['.value', '.meaning', '.was', '.tile h3', 'figcaption', '.key'].map((selector) => [
      selector, style(selector, 'color'), style('.tile', 'backgroundColor')]),
  };
})()`;

interface Look {
  readonly width: number;
  readonly figures: readonly string[];
  readonly marks: readonly number[];
  readonly outside: readonly string[];
  readonly cells: number;
  readonly bars: number;
  readonly tokens: number;
  readonly unnamed: number;
  readonly background: string;
  readonly texts: readonly (readonly [string, string, string])[];
}

describePages('the page', (open) => {
  const looks = [
    { scheme: 'light', width: 1280 },
    { scheme: 'light', width: 360 },
    { scheme: 'dark', width: 1280 },
    { scheme: 'dark', width: 360 },
  ] as const;

  it.each(looks)('shows one run: $scheme, $width pixels wide', async (options) => {
    const report = readReport(gptq);
    const page = await open(reportHtml([report]), options);
    const seen = (await page.evaluate(look)) as Look;
    expect(page.problems).toEqual([]);
    expect(page.requests, 'its own file and nothing else').toHaveLength(1);
    expect(seen.width, 'no scrolling sideways').toBeLessThanOrEqual(options.width);
    expect(seen.outside, 'labels cut off').toEqual([]);
    expect(seen.figures).toHaveLength(6);
    for (const [index, title] of seen.figures.entries()) expect(seen.marks[index], title).toBeGreaterThan(3);
    expect(seen.cells, 'layers by kinds').toBe(6 * 7);
    const kinds = new Set(report.tensors.map(({ kind }) => kind)).size;
    expect(seen.bars, 'kinds before and after, sequences').toBe(
      2 * kinds + report.evaluation!.sequences.length,
    );
    expect(seen.tokens).toBe(10);
    expect(seen.unnamed).toBe(0);
    for (const [selector, colour, background] of seen.texts) {
      expect(contrast(colour, background), selector).toBeGreaterThan(4.5);
    }
    const [red] = seen.background.match(/\d+/g)!.map(Number);
    if (options.scheme === 'dark') expect(red).toBeLessThan(60);
    else expect(red).toBeGreaterThan(200);
    await page.screenshot(scratch.path(`${options.scheme}-${options.width}.png`));
    expect(pngSize(scratch.path(`${options.scheme}-${options.width}.png`)).height).toBeGreaterThan(3000);
  });

  it.each(looks)('compares runs: $scheme, $width pixels wide', async (options) => {
    const page = await open(reportHtml([readReport(gptq), readReport(other)]), options);
    const seen = (await page.evaluate(look.replace(/texts: .*?\]\),/s, 'texts: [],'))) as Look;
    expect(page.problems).toEqual([]);
    expect(page.requests).toHaveLength(1);
    expect(seen.width).toBeLessThanOrEqual(options.width);
    expect(seen.outside).toEqual([]);
    expect(seen.figures).toHaveLength(2);
    const count = (selector: string) => page.evaluate(`document.querySelectorAll('${selector}').length`);
    expect(await count('#comparison g[aria-label="dot"] circle'), 'a point for each run').toBe(2);
    expect(await count('#comparison section > .scroll tbody tr, #comparison > .scroll tbody tr')).toBe(3);
    expect(await count('#layers g[aria-label="line"] path'), 'a line for each run and kind').toBe(2 * 7);
    await page.evaluate(
      `{ const pages = document.querySelector('select'); pages.value = '1'; pages.dispatchEvent(new Event('change')); }`,
    );
    expect(await page.evaluate('document.querySelector("h1").textContent')).toBe('pebble-other');
  });

  it('draws another view, shows all tokens, folds out numbers and details, and changes its colours', async () => {
    const report = readReport(gptq);
    const page = await open(reportHtml([report]));
    const count = (selector: string) => page.evaluate(`document.querySelectorAll('${selector}').length`);
    await page.click('figure .switch label:nth-of-type(3) input');
    const sequences = report.evaluation!.sequences.length;
    expect(await count('g[aria-label="bar"] rect')).toBe(2 * report.tensors.length + sequences);
    await page.click('.more');
    expect(await count('.tokens tbody tr:not(.group)')).toBe(50);
    expect(await count('details tbody tr'), 'made when they are opened').toBe(0);
    await page.evaluate('for (const each of document.querySelectorAll("details")) each.open = true');
    await page.evaluate(`new Promise((done) => {
        const look = () => (document.querySelector('#details details:first-of-type tbody tr') ? done() : setTimeout(look, 10));
        look();
      })`);
    expect(await count('#details details:first-of-type tbody tr')).toBe(report.tensors.length);
    expect(await page.evaluate('JSON.parse(document.querySelector("pre").textContent).steps[0].method')).toBe(
      'gptq',
    );
    const before = await page.evaluate('getComputedStyle(document.body).backgroundColor');
    await page.click('.theme input[value="dark"]');
    expect(await page.evaluate('getComputedStyle(document.body).backgroundColor')).not.toBe(before);
    expect(page.problems).toEqual([]);
  });
});

function pngSize(path: string): { readonly width: number; readonly height: number } {
  const header = readFileSync(path);
  return { width: header.readUInt32BE(16), height: header.readUInt32BE(20) };
}
