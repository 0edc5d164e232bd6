/** A compress run as its model card tells it, and what it takes to make the same bytes again. */

import { cpus } from 'node:os';
import { basename } from 'node:path';
import { fileHash } from '../io/hash.ts';
import type { OpenedCheckpoint } from '../open.ts';
import { calibrationFile } from '../prepare.ts';
import type { Recipe, Step } from '../recipe.ts';
import { writeRecipe } from '../recipe.ts';
import { version } from '../version.ts';
import type { CardData } from './card.ts';
import { modelCard } from './card.ts';
import type { CompressReport } from './report.ts';

/** Versions and hashes: with the recipe, all that decides the bytes. */
export function provenance(original: OpenedCheckpoint, recipe: Recipe): Record<string, unknown> {
  const data = calibrationFile(recipe);
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

/** What of the run that wrote a recipe is otherwise now, so that the bytes may be too; in sentences. */
export function changesSince(
  made: Recipe['made'] = {},
  now: ReturnType<typeof provenance>,
): readonly string[] {
  return Object.entries(made)
    .filter(([key, value]) => key !== 'source' && now[key] !== value)
    .map(([key, value]) => `the recipe was made with ${key} ${value}, this run has ${now[key] ?? 'none'}`);
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
    notes: [storedAs(report), ...report.notes],
    files: [
      { path: file.path, dtype: file.dtype, bytes: file.bytes, maxDifference: verification.maxDifference },
    ],
    original,
    compressed,
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

/** "Stored: 42 matrices as 4-bit, group 32; 1 as 8-bit, group 32." */
export function storedAs({ layers }: Pick<CompressReport, 'layers'>): string {
  const counts = new Map<string, number>();
  for (const { encoding } of layers) counts.set(encoding, (counts.get(encoding) ?? 0) + 1);
  const parts = [...counts].sort((a, b) => b[1] - a[1]);
  const all = parts.map(([encoding, count], index) => {
    const noun = index > 0 ? '' : count === 1 ? ' matrix' : ' matrices';
    return `${count}${noun} as ${encoding}`;
  });
  return `Stored: ${all.join('; ') || 'nothing was compressed'}.`;
}

/** "gptq (bits 4, group 32, ...) on blocks". */
function describeStep({ method, targets, options }: Step): string {
  const settings = Object.entries(options).map(([key, value]) => `${key} ${value}`);
  return `${method.name} (${settings.join(', ')}) on ${targets.join(' and ')}`;
}

function machine(): string {
  const [first] = cpus();
  return `Node ${process.versions.node}, ${process.platform} ${process.arch}, ${cpus().length} cores, ${first?.model.trim() ?? 'unknown'}`;
}
