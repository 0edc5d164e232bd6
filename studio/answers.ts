/** What both models wrote behind the same prompts. */

import type { ReportData } from '../src/report/schema.ts';
import { h, table } from './dom.ts';

export function answers({ answers: all = [] }: ReportData): HTMLElement | undefined {
  if (all.length === 0) return undefined;
  const rows = all.map(({ prompt, original, compressed }) => [
    prompt,
    original.trim(),
    original === compressed ? 'the same' : compressed.trim(),
  ]);
  return h(
    'section',
    { id: 'answers' },
    h('h2', {}, 'What they answer'),
    h(
      'p',
      { class: 'small' },
      `Each token the most likely one, 40 at most${all[0]!.engine ? `, in ${all[0]!.engine}` : ''}.`,
    ),
    table(['Prompt', 'Original', 'Compressed'], rows, { caption: 'Answers of both models', left: [1, 2] }),
  );
}
