/** A compress run as its model card tells it, and what it takes to make the same bytes again. */

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { basename } from 'node:path';
import type { OpenedCheckpoint } from '../open.ts';
import { shipped } from '../open.ts';
import type { Recipe, Step } from '../recipe.ts';
import { writeRecipe } from '../recipe.ts';
import { version } from '../version.ts';
import type { CardData, CardMeasurements } from './card.ts';
import { modelCard } from './card.ts';
import type { CompressReport, Measures } from './report.ts';

/** Versions and hashes: with the recipe, all that decides the bytes. */
export function provenance(original: OpenedCheckpoint, recipe: Recipe): Record<string, unknown> {
  const data = recipe.calibration.data ?? (recipe.model === undefined ? shipped.data : undefined);
  const { evaluation } = recipe;
  return {
    lapidary: version('lapidary'),
    onnxruntime: version('onnxruntime-node'),
    source: original.model.source,
    modelSha256: original.checkpoint.identity(),
    ...(data === undefined ? {} : { calibrationSha256: fileHash(data) }),
    ...(evaluation.data === undefined ? {} : { evaluationSha256: fileHash(evaluation.data) }),
  };
}

/** @returns README.md */
export function describeRun(
  report: CompressReport,
  { evaluationData }: { readonly evaluationData?: string | undefined },
): string {
  const { recipe, original, compressed, file, verification } = report;
  const hub = /^([\w.-]+\/[\w.-]+)@/.exec(String(recipe.made?.source))?.[1];
  const data: CardData = {
    name: basename(report.out),
    baseModel: hub,
    modelType: report.modelType,
    summary: recipe.steps.map(describeStep).join('; '),
    notes: report.notes,
    files: [
      { path: file.path, dtype: file.dtype, bytes: file.bytes, maxDifference: verification.maxDifference },
    ],
    original: measurements(original),
    compressed: measurements(compressed),
    ...(evaluationData && compressed.tokens
      ? { evaluation: { data: evaluationData, tokens: compressed.tokens } }
      : {}),
    recipe: writeRecipe(recipe),
    reproduction: [
      ['command', 'lapidary compress --recipe recipe.yaml'],
      ...Object.entries(recipe.made ?? {}).map(([key, value]) => [key, String(value)] as const),
      ['machine', machine()],
    ],
  };
  return modelCard(data);
}

function measurements(measures: Measures): CardMeasurements {
  const { speed, ...rest } = measures;
  return { ...rest, prefill: speed?.prefillTokensPerSecond, decode: speed?.decodeTokensPerSecond };
}

/** "gptq (bits 4, group 32, ...) on blocks". */
export function describeStep({ method, targets, options }: Step): string {
  const settings = Object.entries(options).map(([key, value]) => `${key} ${value}`);
  return `${method.name} (${settings.join(', ')}) on ${targets.join(' and ')}`;
}

function machine(): string {
  const [first] = cpus();
  return `Node ${process.versions.node}, ${process.platform} ${process.arch}, ${cpus().length} cores, ${first?.model.trim() ?? 'unknown'}`;
}

function fileHash(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex');
}
