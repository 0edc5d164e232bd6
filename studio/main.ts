/** Draws the reports whose data the page holds: one run, or several side by side with a page for each. */

import type { ReportData } from '../src/report/schema.ts';
import { comparison } from './compare.ts';
import type { Child } from './dom.ts';
import { h } from './dom.ts';
import { runPage } from './run.ts';
import './style/page.css';
import './style/tables.css';
import './style/figures.css';
import './style/media.css';
import { themeSwitch } from './theme.ts';
import type { Run } from './tradeoff.ts';

const holder = document.getElementById('reports')!;
const reports: readonly ReportData[] = JSON.parse(holder.textContent!);
/** Where the page stands beside the run's card. */
const card = holder.dataset.card || undefined;
const runs = labelled(reports);
const main = h('main', { id: 'content', tabindex: -1 });
document.body.append(
  h('a', { class: 'skip', href: '#content' }, 'Skip to the report'),
  h(
    'header',
    {},
    h('span', { class: 'brand' }, 'Lapidary'),
    runs.length > 1 ? pages() : undefined,
    themeSwitch(),
  ),
  main,
  h('footer', {}, 'Made by Lapidary. This file holds all of its data and needs no network.'),
);
show(runs.length > 1 ? comparison(runs) : runPage(runs[0]!.report, card));

function show(content: readonly Child[]): void {
  main.replaceChildren(h('div', {}, content));
  scrollTo(0, 0);
}

/** Names are those of folders, which may be the same in different places. */
function labelled(all: readonly ReportData[]): Run[] {
  return all.map((report, index) => {
    const same = all.filter(({ name }) => name === report.name).length > 1;
    return { label: same ? `${report.name} (${index + 1})` : report.name, report };
  });
}

/** Which page is shown: the comparison, or one run's. */
function pages(): HTMLElement {
  const open = (event: Event) => {
    const chosen = Number((event.target as HTMLSelectElement).value);
    show(chosen < 0 ? comparison(runs) : runPage(runs[chosen]!.report));
  };
  return h(
    'label',
    { class: 'pages' },
    h('span', { class: 'unseen' }, 'Page'),
    h(
      'select',
      { onchange: open },
      h('option', { value: -1 }, `All ${runs.length} runs`),
      runs.map(({ label }, index) => h('option', { value: index }, label)),
    ),
  );
}
