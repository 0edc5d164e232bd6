/** The page of one run. */

import type { ReportData } from '../src/report/schema.ts';
import { answers } from './answers.ts';
import { details } from './details.ts';
import type { Child } from './dom.ts';
import { h } from './dom.ts';
import { errorFigure } from './error.ts';
import { histogramFigure } from './histogram.ts';
import { perplexityFigure } from './perplexity.ts';
import { positionsFigure } from './positions.ts';
import { sequencesFigure } from './sequences.ts';
import { sizeFigure } from './size.ts';
import { checks, keyFigures, notes, title } from './summary.ts';
import { structureSection } from './structure.ts';
import { tokensSection } from './tokens.ts';

/** @param card a link to how the model is used */
export function runPage(report: ReportData, card?: string): Child[] {
  const losses = lossFigures(report);
  return [
    title(report, card),
    keyFigures(report),
    notes(report),
    answers(report),
    structureSection(report),
    checks(report),
    figures('matrices', 'Where the bytes and the errors are', [sizeFigure(report), errorFigure(report)]),
    losses.length > 0 ? figures('text', 'Where the loss is in the text', losses) : undefined,
    report.evaluation && tokensSection(report.evaluation),
    details(report),
  ];
}

function lossFigures(report: ReportData): HTMLElement[] {
  const { evaluation, compressed } = report;
  const perplexity = perplexityFigure(report);
  const first = perplexity ? [perplexity] : [];
  if (!evaluation || !compressed.kl) return first;
  return [
    ...first,
    positionsFigure(evaluation),
    sequencesFigure(evaluation, compressed.kl.mean),
    histogramFigure(evaluation, compressed.kl),
  ];
}

function figures(id: string, name: string, content: readonly Child[]): HTMLElement {
  return h('section', { id }, h('h2', {}, name), h('div', { class: 'figures' }, content));
}
