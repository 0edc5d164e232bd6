/** What the page of a report says and draws, of reports made for it, in Chromium. */

import { expect, it } from 'vitest';
import type { ReportData } from '../src/report/data.ts';
import { reportHtml } from '../src/report/html.ts';
import { describePages } from './engines/describe-pages.ts';
import { exampleReport } from './report-example.ts';

/** What a run without a text knows. */
const { evaluation: _, speed: __, ...bare } = exampleReport;
const { bytes, parameters, bitsPerWeight, multiplyAdds } = bare.compressed;
const cost = { bytes, parameters, bitsPerWeight, multiplyAdds };
const unmeasured: ReportData = {
  ...bare,
  name: 'unmeasured',
  original: { ...cost, bytes: 1000 },
  compressed: cost,
};

/** Larger and slower than what it was made of. */
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

const phone = { width: 390 } as const;

describePages('a page', (open) => {
  const show = (reports: readonly ReportData[], card?: string) => open(reportHtml(reports, card));

  it('says so where nothing was measured, and has no figure for it', async () => {
    const page = await show([unmeasured]);
    const seen = (await page.evaluate(`document.querySelector('main').innerText`)) as string;
    expect(seen).toContain('Nothing was measured');
    expect(seen).not.toMatch(/perplexity|undefined|NaN|null/i);
    expect(await page.evaluate('document.querySelectorAll("figure h3").length')).toBe(2);
    expect(page.problems).toEqual([]);
  });

  it('colours errors alike in all reports, and what hardly differs a little', async () => {
    const colours = async (errors: readonly number[]) => {
      const tensors = exampleReport.tensors.map((tensor, index) => ({ ...tensor, error: errors[index]! }));
      const page = await show([{ ...exampleReport, tensors }]);
      const found = await page.evaluate(
        `[...document.querySelectorAll('g[aria-label="cell"] rect')].map((cell) => getComputedStyle(cell).fill)`,
      );
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
      const page = await show([{ ...exampleReport, evaluation: evaluation(tokens) }]);
      const figure = `[...document.querySelectorAll('figure')].find((each) => each.textContent.includes('By position'))`;
      expect(await page.evaluate(`${figure}.querySelectorAll('g[aria-label="link"] path').length`)).toBe(
        faint,
      );
      expect(await page.evaluate(`${figure}.textContent.includes('Faint:')`)).toBe(faint > 0);
    }
  });

  it('leads to the card where it stands beside one', async () => {
    const link = `document.querySelector('.facts a')?.getAttribute('href') ?? null`;
    const beside = await show([exampleReport], 'README.md#use');
    expect(await beside.evaluate(link)).toBe('README.md#use');
    const apart = await show([exampleReport]);
    expect(await apart.evaluate(link)).toBe(null);
  });

  it('says that a result is larger and slower, and when it was made', async () => {
    const tensors = worse.tensors.map((each) => ({ ...each, after: { label: 'float64', bytes: 500 } }));
    const page = await show([{ ...worse, tensors }]);
    const seen = (await page.evaluate(`document.querySelector('main').innerText`)) as string;
    expect(seen).toContain('1.50 times larger, and the same next token');
    expect(seen).toContain('was 1.00 kB: 1.50× larger');
    expect(seen).toContain('was 2,000: 2.0× slower');
    expect(seen).toContain('was 200: 1.5× faster');
    expect(seen).toContain('2026-12-01 02:03 UTC');
    expect(seen).toContain('(2.50× larger)');
    const marked = `[...document.querySelectorAll('.tile .worse')].map((each) => each.innerText)`;
    expect(await page.evaluate(marked)).toEqual(['was 1.00 kB: 1.50× larger', 'was 2,000: 2.0× slower']);
  });

  it('shows answers that became others before those that only moved, each under its heading', async () => {
    const [token] = exampleReport.evaluation!.changed;
    const moved = { ...token!, kl: 2, compressed: { ...token!.compressed, top: token!.original.top } };
    const shown = async (...changed: (typeof moved)[]) => {
      const page = await show([{ ...exampleReport, evaluation: { ...exampleReport.evaluation!, changed } }]);
      return page.evaluate(
        `[...document.querySelectorAll('#tokens :is(h2, .group th, td.kl)')].map((each) => each.textContent)`,
      );
    };
    const heading = 'The same token is most likely, its probability moved';
    expect(await shown(moved, token!)).toEqual([
      'Where its answers changed most',
      'Another token became most likely',
      'KL 0.900',
      heading,
      'KL 2.00',
    ]);
    expect(await shown(moved)).toEqual(['Where its predictions moved most', heading, 'KL 2.00']);
  });

  it('shows what both answered, whole, and in grey what both say', async () => {
    const long = 'word '.repeat(40);
    const answers = [
      { prompt: 'Once', original: ` upon a ${long}there`, compressed: ` upon a ${long}then` },
      { prompt: 'Twice', original: ' told', compressed: ' told' },
    ];
    for (const options of [{}, phone]) {
      const page = await open(reportHtml([{ ...exampleReport, answers }]), options);
      const cells = `[...document.querySelectorAll('#answers td')]`;
      expect(await page.evaluate(`${cells}.every((each) => each.scrollWidth <= each.clientWidth)`)).toBe(
        true,
      );
      expect(await page.evaluate(`${cells}.map((each) => each.querySelector('p').textContent)`)).toEqual([
        'Once',
        `upon a ${long}there`,
        `upon a ${long}then`,
        'Twice',
        'told',
        'the same',
      ]);
      const shared = `[...document.querySelectorAll('.shared')].map((each) => each.textContent)`;
      expect(await page.evaluate(shared)).toEqual([`upon a ${long}`, `upon a ${long}`, 'told']);
    }
  });

  it('draws the shorter of both bars in front, so that both are seen', async () => {
    const [first, ...rest] = exampleReport.tensors;
    const page = await show([
      { ...exampleReport, tensors: [{ ...first!, after: { label: 'float64', bytes: 900 } }, ...rest] },
    ]);
    // Of the kind that grew: what is met on the way down through both bars, near their beginning.
    const fills = (await page.evaluate(`(() => {
        const bars = [...document.querySelectorAll('figure g[aria-label="bar"] rect')];
        bars[0].scrollIntoView({ block: 'center', behavior: 'instant' });
        const { left, top, height } = bars[0].getBoundingClientRect();
        return document.elementsFromPoint(left + 4, top + height / 2)
          .filter((each) => each.matches('rect'))
          .map((each) => getComputedStyle(each).fill);
      })()`)) as string[];
    const [soft, after] = (await page.evaluate(`['before-soft', 'after'].map((name) => {
        const probe = document.body.appendChild(document.createElement('i'));
        probe.style.color = 'var(--' + name + ')';
        return getComputedStyle(probe).color;
      })`)) as string[];
    expect(fills.slice(0, 2)).toEqual([soft, after]);
  });

  it('calls a rate that is within a tenth as fast', async () => {
    const rates = { prefillTokensPerSecond: 1000, decodeTokensPerSecond: 100 };
    const slightly = { prefillTokensPerSecond: 950, decodeTokensPerSecond: 105 };
    const page = await show([
      { ...exampleReport, speed: { original: rates, compressed: slightly, engine: 'ONNX Runtime' } },
    ]);
    const seen = (await page.evaluate(`document.querySelector('#summary').innerText`)) as string;
    expect(seen.match(/about as fast/g)).toHaveLength(2);
    expect(await page.evaluate(`document.querySelectorAll('.worse').length`)).toBe(0);
  });

  it('says when, with what and where it was made, without a click', async () => {
    const reproduction = [
      ...exampleReport.reproduction,
      ['lapidary', '0.1.0'],
      ['modelSha256', '12ab'],
    ] as const;
    const page = await show([{ ...worse, reproduction }]);
    const facts = (await page.evaluate(`document.querySelector('.facts').innerText`)) as string;
    expect(facts).toContain('2026-12-01 02:03 UTC, lapidary 0.1.0');
    expect(facts).toContain('Node 20, 2 cores');
    expect(facts).not.toContain('12ab');
  });

  it('shows on a phone that tables scroll, and does not break the ending of a file', async () => {
    const [file] = exampleReport.files;
    const path = 'onnx/model_with_a_name_that_is_long.onnx';
    const notes = ['Measure it: give --calibration or --evaluation, which both take a file of text.'];
    const page = await open(reportHtml([{ ...exampleReport, notes, files: [{ ...file!, path }] }]), phone);
    const [overflows, shades] = (await page.evaluate(`(() => {
        const box = document.querySelector('#checks .scroll');
        return [box.scrollWidth > box.clientWidth, getComputedStyle(box).backgroundAttachment];
      })()`)) as [boolean, string];
    expect([overflows, shades]).toEqual([true, 'local, local, scroll, scroll']);
    const lines = (selector: string) =>
      page.evaluate(`[...document.querySelectorAll('${selector}')].map((each) => {
          const last = [...each.childNodes].findLast((child) => child.nodeType === Node.TEXT_NODE);
          const range = document.createRange();
          range.selectNodeContents(last);
          return [last.textContent, new Set([...range.getClientRects()].map(({ top }) => top)).size];
        })`);
    expect(await lines('.path')).toEqual([['long.onnx', 1]]);
    expect(await lines('.notes .whole')).toEqual([
      ['--calibration', 1],
      ['--evaluation', 1],
    ]);
  });

  it('keeps what is written off the line of no loss, and says where errors are alike', async () => {
    const tensors = exampleReport.tensors.map((tensor) => ({ ...tensor, error: 0.006 }));
    const ratio = { value: 1.1, low: 0.9, high: 1.3 };
    const page = await show([
      { ...exampleReport, tensors, compressed: { ...exampleReport.compressed, perplexityRatio: ratio } },
    ]);
    const apart = await page.evaluate(`(() => {
        const texts = [...document.querySelectorAll('figure text')];
        const written = texts.find((each) => each.textContent.includes('compressed over original'));
        const line = written.closest('svg').querySelector('line[stroke-dasharray], [stroke-dasharray] line');
        return line.getBoundingClientRect().top - written.getBoundingClientRect().bottom;
      })()`);
    expect(apart).toBeGreaterThanOrEqual(0);
    expect(await page.evaluate(`document.querySelector('#matrices').innerText`)).toContain(
      'Much the same everywhere: 0.60% to 0.60%',
    );
  });

  it('lives with tensors that went or came, and tells structure and zeros', async () => {
    const [first, second, ...rest] = exampleReport.tensors;
    const { after: _gone, ...removed } = first!;
    const { before: _never, ...added } = second!;
    const built = (heads: readonly number[]) => ({
      layers: heads.length,
      hidden: 8,
      vocabulary: 90,
      heads,
      keyValueHeads: heads,
      headSize: heads.map(() => 4),
      intermediate: heads.map(() => 16),
    });
    const page = await show([
      {
        ...exampleReport,
        tensors: [
          removed,
          { ...added, name: 'model.exit', kind: 'exit' },
          ...rest.map((each) => ({ ...each, sparsity: 0.5 })),
        ],
        structure: { before: built([4, 4, 4]), after: built([4, 2]) },
      },
    ]);
    expect(page.problems).toEqual([]);
    const text = async (selector: string) =>
      (await page.evaluate(`document.querySelector('${selector}').innerText`)) as string;
    expect((await text('#structure')).split(/[\t\n]+/).join('; ')).toBe(
      'What it is built of; Structure before and after; Original; Compressed; Layers; 3; 2; Heads a layer; 4; 2 to 4, 3.00 on average; Heads of keys and values a layer; 4; 2 to 4, 3.00 on average',
    );
    expect(await text('#summary')).toMatch(/Zeros\s+50\.0%/);
    expect(await text('#matrices')).toContain('0 B → 60 B  (added)');
    await page.evaluate(`document.querySelector('#details details').open = true`);
    await page.evaluate('new Promise((done) => setTimeout(done, 50))');
    expect(await text('#details')).toMatch(/removed\t–/);
  });

  it('draws no line through runs of different models or texts, nor for what was not measured', async () => {
    const moved = { ...exampleReport.original, nats: 2 };
    const elsewhere: ReportData = { ...exampleReport, name: 'other text', original: moved };
    const lines = async (...reports: ReportData[]) => {
      const page = await show(reports);
      const text = await page.evaluate(`document.querySelector('#comparison').innerText`);
      const onLine = await page.evaluate(
        `document.querySelectorAll('#comparison g[aria-label="line"] path').length`,
      );
      return { text: text as string, onLine };
    };
    const compared = await lines(exampleReport, { ...worse, speed: exampleReport.speed }, unmeasured);
    expect(compared.onLine).toBe(1);
    expect(compared.text).toContain('● yes');
    const row = compared.text.split('\n').find((line) => line.startsWith('unmeasured'))!;
    expect(
      row.split('\t').filter((cell) => cell.trim() === '–'),
      'line, perplexity, KL, top token, rate',
    ).toHaveLength(5);
    const apart = await lines(exampleReport, elsewhere);
    expect(apart.onLine).toBe(0);
    expect(apart.text).not.toContain('yes');
    expect(apart.text).toContain('there is no line');
  });

  it('shows hostile names and tokens as text', async () => {
    const hostile = '</script><script>window.broken = 1</script><img src="x:" onerror="broken = 1">\u202e';
    const [changed] = exampleReport.evaluation!.changed;
    const answer = { top: hostile, probability: 0.5, target: 0.1 };
    const page = await show([
      {
        ...exampleReport,
        name: hostile,
        model: hostile,
        summary: hostile,
        notes: [hostile],
        tensors: exampleReport.tensors.map((tensor) => ({ ...tensor, kind: `${hostile}${tensor.kind}` })),
        evaluation: {
          ...exampleReport.evaluation!,
          changed: [{ ...changed!, context: hostile, target: hostile, original: answer, compressed: answer }],
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
  });
});
