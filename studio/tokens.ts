/** The tokens whose answer changed most, each in its context, as readers of the text see them. */

import type { ReportEvaluation } from '../src/report/schema.ts';
import type { Child } from './dom.ts';
import { cards, h } from './dom.ts';
import { percent, significant, whole } from './format.ts';

type Changed = ReportEvaluation['changed'][number];
type Answer = Changed['original'];

const first = 10;

export function tokensSection({ changed: all }: ReportEvaluation): HTMLElement | undefined {
  if (all.length === 0) return undefined;
  const [changed, moved] = [all.filter((each) => !isSame(each)), all.filter(isSame)];
  const few = changed.slice(0, first);
  const groups = (became: readonly Changed[], stayed: readonly Changed[]) => [
    group('Another token became most likely', became, 0),
    group('The same token is most likely, its probability moved', stayed, changed.length),
  ];
  const section = (bodies: Child) =>
    cards(['Text, and the token to be predicted', 'Original', 'Compressed', 'KL'], bodies, {
      caption: 'Tokens by KL divergence, worst first',
      name: 'tokens',
    });
  const shown = section(groups(few, moved.slice(0, first - few.length)));
  const more = h(
    'button',
    {
      type: 'button',
      class: 'more',
      onclick: () => {
        shown.replaceWith(section(groups(changed, moved)));
        more.remove();
      },
    },
    `Show all ${all.length}`,
  );
  return h(
    'section',
    { id: 'tokens' },
    h('h2', {}, changed.length > 0 ? 'Where its answers changed most' : 'Where its predictions moved most'),
    h(
      'p',
      {},
      'Marked is what stands in the text; beside it what each model found most likely, with its probability as a bar. Below the bar, in grey, where that is another token: how likely it found the one of the text. ',
      h('span', { class: 'ws' }, '·'),
      ' is a space, ',
      h('span', { class: 'ws' }, '↵'),
      ' a new line.',
    ),
    shown,
    all.length > first ? more : undefined,
  );
}

/** @param before how many are counted before these */
function group(name: string, tokens: readonly Changed[], before: number): HTMLElement | undefined {
  if (tokens.length === 0) return undefined;
  return h(
    'tbody',
    { role: 'rowgroup' },
    h(
      'tr',
      { role: 'row', class: 'group' },
      h('th', { scope: 'rowgroup', role: 'rowheader', colspan: 4 }, name),
    ),
    tokens.map((token, index) => row(token, before + index)),
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
