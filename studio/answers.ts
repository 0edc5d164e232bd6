/** What both models wrote behind the same prompts, with the place where they part. */

import type { ReportData } from '../src/report/schema.ts';
import type { Child } from './dom.ts';
import { cards, h } from './dom.ts';

type Answers = NonNullable<ReportData['answers']>[number];

export function answers({ answers: all = [] }: ReportData): HTMLElement | undefined {
  if (all.length === 0) return undefined;
  return h(
    'section',
    { id: 'answers' },
    h('h2', {}, 'What they answer'),
    h(
      'p',
      { class: 'small' },
      `Each token the most likely one, 40 at most${all[0]!.engine ? `, in ${all[0]!.engine}` : ''}. In grey what both say; once one word differs, all behind it may.`,
    ),
    cards(['Prompt', 'Original', 'Compressed'], h('tbody', { role: 'rowgroup' }, all.map(row)), {
      caption: 'Answers of both models',
      name: 'answers',
    }),
  );
}

function row({ prompt, original, compressed }: Answers): HTMLElement {
  const shared = sharedBeginning(original, compressed);
  const cell = (name: string, label: string, ...children: readonly Child[]) =>
    h('td', { role: 'cell', class: name }, h('span', { class: 'name' }, label), h('p', {}, children));
  const said = (text: string) => [
    h('span', { class: 'shared' }, text.slice(0, shared).trimStart()),
    text.slice(shared).trimEnd(),
  ];
  return h(
    'tr',
    { role: 'row' },
    cell('prompt', 'Prompt', h('bdi', {}, prompt)),
    cell('said-original', 'Original', h('bdi', {}, said(original))),
    cell(
      'said-compressed',
      'Compressed',
      original === compressed ? 'the same' : h('bdi', {}, said(compressed)),
    ),
  );
}

/** Length of what two texts begin with alike, in whole words. */
function sharedBeginning(a: string, b: string): number {
  if (a === b) return a.length;
  let length = 0;
  while (length < a.length && a[length] === b[length]) length++;
  return a.slice(0, length).search(/\S*$/);
}
