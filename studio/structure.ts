/** What the model is built of, before and after, where compression changed that. */

import type { ReportData, ReportStructure } from '../src/report/schema.ts';
import { h, table } from './dom.ts';
import { significant, whole } from './format.ts';

const names: Readonly<Record<keyof ReportStructure, string>> = {
  layers: 'Layers',
  hidden: 'Width of the hidden states',
  vocabulary: 'Tokens of the vocabulary',
  convolutions: 'Width of convolutions in the place of attention',
  heads: 'Heads a layer',
  keyValueHeads: 'Heads of keys and values a layer',
  headSize: 'Width of a head',
  intermediate: 'Width of the feed-forward layers',
  experts: 'Experts a layer',
};

export function structureSection({ structure }: ReportData): HTMLElement | undefined {
  if (!structure) return undefined;
  const { before, after } = structure;
  const keys = Object.keys(names) as (keyof ReportStructure)[];
  const rows = keys.map((key) => [names[key], shown(before[key]), shown(after[key])]);
  return h(
    'section',
    { id: 'structure' },
    h('h2', {}, 'What it is built of'),
    table(
      ['', 'Original', 'Compressed'],
      // What did not change is no news.
      rows.filter(([, was, is]) => was !== is),
      { caption: 'Structure before and after', left: [1, 2] },
    ),
  );
}

/** "8"; of layers that differ "4 to 8, 6.5 on average" */
function shown(value: number | readonly number[] | undefined): string {
  if (value === undefined) return '–';
  if (typeof value === 'number') return whole(value);
  const [low, high] = [Math.min(...value), Math.max(...value)];
  if (value.length === 0) return '–';
  if (low === high) return whole(low);
  const mean = value.reduce((sum, each) => sum + each, 0) / value.length;
  return `${whole(low)} to ${whole(high)}, ${significant(mean, 3)} on average`;
}
