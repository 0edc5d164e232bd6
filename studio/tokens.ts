/** The tokens whose answer changed most, each in its context, as readers of the text see them. */

import type { ReportEvaluation } from '../src/report/schema.ts';
import type { Child } from './dom.ts';
import { h } from './dom.ts';
import { percent, significant, whole } from './format.ts';

type Changed = ReportEvaluation['changed'][number];
type Answer = Changed['original'];

const first = 10;

export function tokensSection({ changed: moved }: ReportEvaluation): HTMLElement | undefined {
  if (moved.length === 0) return undefined;
  // Answers that became others first; within these and the rest, worst first, as they come.
  const changed = moved.toSorted((a, b) => Number(isSame(a)) - Number(isSame(b)));
  const body = h('tbody', { role: 'rowgroup' }, changed.slice(0, first).map(row));
  const more = h(
    'button',
    {
      type: 'button',
      class: 'more',
      onclick: () => {
        body.append(...changed.slice(first).map((token, index) => row(token, first + index)));
        more.remove();
      },
    },
    `Show all ${changed.length}`,
  );
  const head = ['Text, and the token to be predicted', 'Original', 'Compressed', 'KL'];
  return h(
    'section',
    { id: 'tokens' },
    h('h2', {}, 'Where its answers changed most'),
    h(
      'p',
      {},
      'Of the tokens with the largest divergence, first those where another token became most likely. Marked is what stands in the text; beside it, what each model found most likely, and below that, in grey, how likely it found the token of the text. ',
      h('span', { class: 'ws' }, '·'),
      ' is a space, ',
      h('span', { class: 'ws' }, '↵'),
      ' a new line.',
    ),
    h(
      'table',
      { class: 'tokens', role: 'table' },
      h('caption', { class: 'unseen' }, 'Tokens by KL divergence, worst first'),
      h(
        'thead',
        { role: 'rowgroup' },
        h(
          'tr',
          { role: 'row' },
          head.map((cell) => h('th', { scope: 'col', role: 'columnheader' }, cell)),
        ),
      ),
      body,
    ),
    changed.length > first ? more : undefined,
  );
}

const isSame = ({ original, compressed }: Changed): boolean => original.top === compressed.top;

function row(token: Changed, index: number): HTMLElement {
  const { sequence, position, kl, context, target } = token;
  const cell = (name: string, ...children: readonly Child[]) =>
    h('td', { role: 'cell', class: name }, children);
  return h(
    'tr',
    { role: 'row' },
    cell(
      'context',
      h('p', { dir: 'auto' }, visible(context, false), h('mark', {}, h('bdi', {}, visible(target, true)))),
      h('p', { class: 'was' }, `${index + 1}. sequence ${sequence + 1}, position ${whole(position)}`),
    ),
    cell('answer', answer('Original', token.original, 'before', target)),
    cell('answer', answer('Compressed', token.compressed, 'after', target)),
    cell('kl', h('span', { class: 'name' }, 'KL '), significant(kl)),
  );
}

/** The most likely token with a bar for its probability; and the text's own, where that is another. */
function answer(name: string, { top, probability, target }: Answer, colour: string, text: string): Child {
  return [
    h('span', { class: 'name' }, name),
    said(top, probability, colour),
    top === text
      ? undefined
      : h('p', { class: 'was' }, h('bdi', {}, visible(text, true)), ` ${percent(target)}`),
  ];
}

function said(token: string, probability: number, colour: string): Child {
  const width = `width: ${(100 * Math.min(1, probability)).toFixed(1)}%`;
  return h(
    'div',
    { class: 'said' },
    h('bdi', { class: 'token' }, visible(token, true)),
    h('span', { class: 'share' }, percent(probability, probability < 0.1 ? 1 : 0)),
    h('span', { class: `bar ${colour}`, 'aria-hidden': 'true' }, h('span', { style: width })),
  );
}

const signs: Readonly<Record<string, readonly [sign: string, name: string]>> = {
  ' ': ['·', 'space'],
  '\n': ['↵', 'new line'],
  '\r': ['␍', 'carriage return'],
  '\t': ['⇥', 'tab'],
  '\u00a0': ['⍽', 'no-break space'],
};

/** White space and control characters as signs; spaces inside a text stay as they are. */
function visible(text: string, spaces: boolean): Child[] {
  if (text === '') return [sign('∅', 'no text')];
  const parts = text.split(spaces ? /([\s\p{Cc}\p{Cf}])/u : /((?! )[\s\p{Cc}\p{Cf}])/u);
  return parts
    .filter((part) => part !== '')
    .map((part) => {
      const known = signs[part];
      if (known && (spaces || part !== ' ')) return sign(...known);
      if (!/^[\s\p{Cc}\p{Cf}]$/u.test(part) || part === ' ') return part;
      const code = part.codePointAt(0)!.toString(16).toUpperCase().padStart(4, '0');
      return sign(`U+${code}`, `character ${code}`);
    });
}

function sign(shown: string, name: string): HTMLElement {
  return h('span', { class: 'ws', role: 'img', 'aria-label': name, title: name }, shown);
}
