/** What positions and sequences have in common: means over some tokens, as a tip and as a row say them. */

import type { ReportEvaluation } from '../src/report/schema.ts';
import { fixed, percent, significant, whole } from './format.ts';

type Means = ReportEvaluation['sequences'][number];

export const meansHead = ['Tokens', 'KL', 'Perplexity before', 'after', 'Same top token'];

export function meansRow({ tokens, nats, originalNats, kl, same }: Means): string[] {
  const perplexities = [originalNats, nats].map((value) => fixed(Math.exp(value), 3));
  return [whole(tokens), significant(kl), ...perplexities, percent(same, 1)];
}

/** @param name what the tokens are of */
export function meansTip(name: string, means: Means): string {
  const [tokens, kl, before, after, same] = meansRow(means);
  return `${name}, ${tokens} tokens\nKL ${kl}\nperplexity ${before} → ${after}\nsame top token ${same}`;
}

/** Of KL divergences, from 0. */
export const divergenceAxis = {
  label: null,
  grid: true,
  zero: true,
  ticks: 5,
  tickFormat: (kl: number) => significant(kl, 2),
};
