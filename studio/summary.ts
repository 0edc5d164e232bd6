/** The top of a run's page: what was done, saved and lost, in words and key figures. */

import { isFaster, isSlower } from '../src/evaluate/pace.ts';
import type { ReportData } from '../src/report/schema.ts';
import type { Child } from './dom.ts';
import { h, table } from './dom.ts';
import type { Estimate } from './format.ts';
import { bytes, count, fixed, inBrackets, interval, percent, significant, size, whole } from './format.ts';

/** @param card a link to how the model is used */
export function title(report: ReportData, card?: string): HTMLElement {
  const { name, model, modelType, target, original, summary, timings } = report;
  const made = [...(timings.finished === undefined ? [] : [date(timings.finished)]), ...versions(report)];
  return h(
    'div',
    { class: 'title' },
    h('h1', {}, name),
    h('p', { class: 'lead' }, inShort(report)),
    h(
      'dl',
      { class: 'facts' },
      fact('Original', `${model} (${modelType}, ${count(original.parameters)} parameters)`),
      fact('Written', target),
      fact('What was done', summary),
      ...(made.length > 0 ? [fact('Made', made.join(', '))] : []),
      fact('Machine', timings.machine),
      ...(card === undefined ? [] : [fact('How to use it', h('a', { href: card }, 'in its card'))]),
    ),
  );
}

function fact(name: string, value: Child): Child {
  return h('div', {}, h('dt', {}, name), h('dd', {}, value));
}

/** "2026-12-01 02:03 UTC" */
const date = (finished: string): string => `${finished.slice(0, 16).replace('T', ' ')} UTC`;

/** Of what took part: "lapidary 0.1.0". */
const versions = ({ reproduction }: ReportData): string[] =>
  reproduction.filter(([, value]) => /^\d+\.\d+\S*$/.test(value)).map((each) => each.join(' '));

function inShort({ original, compressed }: ReportData): string {
  const change = size(original.bytes, compressed.bytes).replace('×', ' times').replace(/^t/, 'T');
  const { kl, agreement, perplexity } = compressed;
  if (!agreement || !kl || !perplexity || !original.perplexity)
    return `${change}; what was lost was not measured.`;
  return `${change}, and the same next token ${percent(agreement.value, 1)} of the time. Perplexity ${added(perplexity.value / original.perplexity.value)}.`;
}

/** A ratio as what it adds: "+0.23%". */
function added(ratio: number): string {
  return `${ratio < 1 ? '−' : '+'}${percent(Math.abs(ratio - 1))}`;
}

interface Tile {
  readonly label: string;
  readonly value: string;
  readonly unit?: string;
  /** What it was, or how sure it is. */
  readonly details: readonly string[];
  /** Whether it is a loss where a gain was hoped for. */
  readonly worse?: boolean;
  readonly meaning: string;
}

export function keyFigures(report: ReportData): HTMLElement {
  const lost = lossTiles(report);
  const { tokens } = report.compressed;
  const data = report.evaluation?.data;
  return h(
    'section',
    { id: 'summary', 'aria-label': 'Key figures' },
    h('h2', {}, 'What was saved'),
    h('div', { class: 'tiles' }, [...costTiles(report), ...speedTiles(report)].map(tile)),
    h('h2', {}, 'What was lost'),
    lost.length > 0
      ? h('div', { class: 'tiles' }, lost.map(tile))
      : h(
          'p',
          { class: 'absent' },
          'Nothing was measured: there was no text to evaluate on, so what was lost is not known.',
        ),
    lost.length > 0 && tokens !== undefined
      ? h(
          'p',
          { class: 'small' },
          `Measured on ${whole(tokens)} predicted tokens${data === undefined ? '' : ` of ${data}`}. ${report.compressed.perplexity?.low === undefined ? 'No intervals: it is one sequence.' : 'Intervals: 95%, bootstrap over sequences.'}`,
        )
      : undefined,
  );
}

function tile({ label, value, unit, details, worse, meaning }: Tile): HTMLElement {
  return h(
    'div',
    { class: 'tile' },
    h('h3', {}, label),
    h(
      'p',
      { class: 'value' },
      value,
      unit === undefined ? undefined : h('span', { class: 'unit' }, ` ${unit}`),
    ),
    details.map((line) => h('p', { class: worse ? 'was worse' : 'was' }, line)),
    h('p', { class: 'meaning' }, meaning),
  );
}

function costTiles({ original, compressed, tensors }: ReportData): Tile[] {
  const zeros = sparsity(tensors);
  return [
    {
      label: 'Size',
      value: bytes(compressed.bytes),
      details: [`was ${bytes(original.bytes)}: ${size(original.bytes, compressed.bytes)}`],
      worse: compressed.bytes > original.bytes,
      meaning: 'The weights, as the engine loads them; tokenizer and settings come besides.',
    },
    {
      label: 'Bits a weight',
      value: compressed.bitsPerWeight.toFixed(2),
      details: [`was ${original.bitsPerWeight.toFixed(2)}`],
      worse: compressed.bitsPerWeight > original.bitsPerWeight,
      meaning: 'What is stored for one parameter, scales and zero points included, over the whole model.',
    },
    ...(compressed.parameters === original.parameters
      ? []
      : [
          {
            label: 'Parameters',
            value: count(compressed.parameters),
            details: [`was ${count(original.parameters)}`],
            worse: compressed.parameters > original.parameters,
            meaning: 'Weights that the model has.',
          },
        ]),
    ...(zeros === undefined
      ? []
      : [
          {
            label: 'Zeros',
            value: percent(zeros, 1),
            details: [],
            meaning: 'Share of the weights that are zero, of the matrices that were pruned.',
          },
        ]),
  ];
}

/** Over all matrices that have one; undefined where none has. */
function sparsity(tensors: ReportData['tensors']): number | undefined {
  const pruned = tensors.filter((tensor) => tensor.sparsity !== undefined);
  const elements = (shape: readonly number[]) => shape.reduce((product, size) => product * size, 1);
  const sum = (value: (tensor: ReportData['tensors'][number]) => number) =>
    pruned.reduce((all, tensor) => all + value(tensor), 0);
  if (pruned.length === 0) return undefined;
  return sum((tensor) => tensor.sparsity! * elements(tensor.shape)) / sum(({ shape }) => elements(shape));
}

function speedTiles({ speed }: ReportData): Tile[] {
  const { original, compressed, engine } = speed ?? {};
  if (!compressed) return [];
  const rate = (label: string, key: keyof typeof compressed, meaning: string): Tile => ({
    label,
    value: whole(Math.round(compressed[key])),
    unit: 'tokens/s',
    details: original
      ? [`was ${whole(Math.round(original[key]))}: ${pace(compressed[key], original[key])}`]
      : [],
    worse: original !== undefined && isSlower(compressed[key], original[key]),
    meaning: `${meaning}, in ${engine}.`,
  });
  return [
    rate('Prompt', 'prefillTokensPerSecond', 'Reading a prompt in one run'),
    rate('Generation', 'decodeTokensPerSecond', 'Writing one token after the other'),
  ];
}

/** "1.4× faster", "1.2× slower", "about as fast" */
function pace(rate: number, before: number): string {
  if (isSlower(rate, before)) return `${significant(before / rate, 2)}× slower`;
  return isFaster(rate, before) ? `${significant(rate / before, 2)}× faster` : 'about as fast';
}

function lossTiles({ original, compressed }: ReportData): Tile[] {
  const { perplexity, perplexityRatio, kl, agreement, bitsPerCharacter } = compressed;
  const tiles: Tile[] = [];
  const sure = (estimate: Omit<Estimate, 'value'>, show: number | ((value: number) => string)) => {
    const found = interval(estimate, show);
    return found === undefined ? [] : [`95%: ${found}`];
  };
  if (perplexity) {
    const digits = perplexity.value < 100 ? 3 : 1;
    const before = original.perplexity;
    tiles.push({
      label: 'Perplexity',
      value: fixed(perplexity.value, digits),
      details: [
        ...sure(perplexity, digits),
        ...(before ? [`was ${fixed(before.value, digits)}${inBrackets(before, digits)}`] : []),
        ...(perplexityRatio ? [`${added(perplexityRatio.value)}${inBrackets(perplexityRatio, added)}`] : []),
      ],
      meaning: 'How surprised it is by real text: as if it chose among so many tokens. Lower is better.',
    });
  }
  if (kl) {
    tiles.push({
      label: 'KL divergence',
      value: significant(kl.mean),
      unit: 'nats',
      details: [
        ...sure(kl, significant),
        `median ${significant(kl.median, 2)}, 99th percentile ${significant(kl.p99, 2)}`,
      ],
      meaning: 'How far its predictions moved away from the original’s, a token. 0: not at all.',
    });
  }
  if (agreement) {
    tiles.push({
      label: 'Same top token',
      value: percent(agreement.value, 1),
      details: sure(agreement, (share) => percent(share, 1)),
      meaning: 'How often both find the same next token most likely.',
    });
  }
  if (bitsPerCharacter) {
    tiles.push({
      label: 'Bits a character',
      value: fixed(bitsPerCharacter.value, 3),
      details: [
        ...sure(bitsPerCharacter, 3),
        ...(original.bitsPerCharacter ? [`was ${fixed(original.bitsPerCharacter.value, 3)}`] : []),
      ],
      meaning: 'The same surprise by length of text, comparable between tokenizers.',
    });
  }
  return tiles;
}

export function notes({ notes }: ReportData): HTMLElement | undefined {
  if (notes.length === 0) return undefined;
  return h(
    'aside',
    { class: 'notes', 'aria-label': 'Notes' },
    h('h2', {}, 'To know'),
    h(
      'ul',
      {},
      notes.map((note) => h('li', {}, wholeFlags(note))),
    ),
  );
}

/** Flags of the command line do not break behind their dashes. */
const wholeFlags = (text: string): Child =>
  text
    .split(/(--[a-z][\w-]*)/)
    .map((part) => (part.startsWith('--') ? h('span', { class: 'whole' }, part) : part));

/** A path that breaks behind folders and the words of a name, never inside its ending. */
const breakable = (path: string): Child => path.split(/(?<=[/_-])/).flatMap((part) => [h('wbr'), part]);

/** The written files, and the engines that loaded them. */
export function checks({ files }: ReportData): HTMLElement {
  const rows = files.flatMap(({ path, type, bytes: size, checks: done }) => {
    const file = (verdict: Child, ...rest: readonly Child[]) => [
      h('code', { class: 'path' }, breakable(path)),
      verdict,
      ...rest,
      bytes(size),
      type,
    ];
    if (done.length === 0) return [file('not loaded', '', '', '', '')];
    return done.map(({ engine, worst, tolerance, maxDifference }) =>
      file(
        worst <= tolerance
          ? h('span', { class: 'verdict good' }, '✓ agrees')
          : h('span', { class: 'verdict bad' }, '✗ differs'),
        engine,
        ...[worst, tolerance, maxDifference].map((value) => significant(value, 2)),
      ),
    );
  });
  const head = [
    'File',
    'Verdict',
    'Loaded again in',
    'Difference',
    'Allowed',
    'Largest, of a logit',
    'Size',
    'Type',
  ];
  return h(
    'section',
    { id: 'checks' },
    h('h2', {}, 'What was checked'),
    h(
      'p',
      {},
      'Each file was loaded again after it was written, and its logits were compared with those of the model in memory. The difference is that of the worst token: root mean square over its logits, in standard deviations of all logits.',
    ),
    table(head, rows, { caption: 'Files and engines that loaded them', left: [1, 2, 7] }),
  );
}
