/** A compress run as its model card tells it, and what it takes to make the same bytes again. */

import { cpus } from 'node:os';
import { existsSync } from 'node:fs';
import { basename } from 'node:path';
import { fileHash } from '../io/hash.ts';
import { isHubId } from '../io/hub-id.ts';
import type { OpenedCheckpoint } from '../open.ts';
import { isShipped } from '../open.ts';
import { calibrationFile } from '../run/texts.ts';
import type { Recipe } from '../recipe/recipe.ts';
import type { Step } from '../recipe/steps.ts';
import { writeRecipe } from '../recipe/recipe.ts';
import { isCompression } from '../recipe/steps.ts';
import { version } from '../version.ts';
import type { EvaluationDetails } from '../evaluate/details.ts';
import type { Format, Speeds } from '../formats/format.ts';
import type { Model } from '../models/model.ts';
import type { Texts } from '../run/texts.ts';
import type { CardFormat } from './card-format.ts';
import { modelCard } from './card.ts';
import type { ReportData } from './data.ts';
import { reportData } from './data.ts';
import { recipeName } from './files.ts';
import type { CompressReport } from './report.ts';

/** Versions and hashes: with the recipe, all that decides the bytes. */
export function provenance(original: OpenedCheckpoint, recipe: Recipe): Record<string, unknown> {
  const data = calibrationFile(recipe);
  const { calibration, evaluation } = recipe;
  return {
    lapidary: version('lapidary'),
    onnxruntime: version('onnxruntime-node'),
    source: original.model.source,
    modelSha256: original.checkpoint.identity(),
    ...(data === undefined ? {} : { calibrationSha256: fileHash(data) }),
    ...(calibration.imatrix === undefined ? {} : { imatrixSha256: fileHash(calibration.imatrix) }),
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

/** What `reportData` needs besides the run's own report. */
interface RunParts {
  readonly original: OpenedCheckpoint;
  /** As it stands in the file. */
  readonly stored: Model;
  readonly texts: Texts;
  readonly format: Format;
  readonly details?: EvaluationDetails | undefined;
  readonly speeds?: Speeds | undefined;
}

/** report.json. */
export function dataOf(
  report: CompressReport,
  { original, stored, texts, format, details, speeds }: RunParts,
): ReportData {
  const { recipe, type, file, checks } = report;
  return reportData(report, {
    original: original.model,
    compressed: stored,
    target: `${format.label}, ${file.type}`,
    summary: `${recipe.steps.map(describeStep).join('; ')}. ${storedAs(report)}`,
    files: [{ ...file, checks }],
    details,
    evaluationData: texts.evaluationData,
    decode: (ids) => original.tokenizer.decode(ids),
    engine: speeds?.engine,
    reproduction: [
      ['command', commandFor(recipe, recipeName(type)).command],
      ...Object.entries(recipe.made ?? {}).map(([key, value]) => [key, String(value)] as const),
    ],
    machine: machine(),
  });
}

/** @param finished what was made of one original, in one folder; one, or one a type @returns README.md */
export function describeRuns(
  finished: readonly {
    readonly report: CompressReport;
    readonly data: ReportData;
    readonly card: CardFormat;
  }[],
  original: OpenedCheckpoint,
): string {
  const [{ report, data, card }] = finished as readonly [(typeof finished)[number]];
  const { compressed } = report;
  return modelCard({
    name: basename(report.out),
    original: { name: original.name, ...original.origin },
    modelType: report.modelType,
    format: card,
    before: report.original,
    results: finished.map(({ report, data }) => ({
      name: report.type ?? 'compressed',
      summary: data.summary.replace(/\.$/, ''),
      notes: report.notes,
      files: data.files,
      after: report.compressed,
      answers: data.answers ?? [],
      recipe: { name: recipeName(report.type), text: writeRecipe(report.recipe) },
      command: commandFor(report.recipe, recipeName(report.type)).command,
    })),
    ...(data.evaluation && compressed.tokens
      ? { evaluation: { data: data.evaluation.data, tokens: compressed.tokens } }
      : {}),
    report: 'report.html',
    placeholders: commandFor(report.recipe, '').placeholders,
    reproduction: [
      ...data.reproduction.filter(([what]) => what !== 'command'),
      ['machine', data.timings.machine],
    ],
  });
}

/** What makes it again wherever the folder is: files of this machine have other names elsewhere. */
function commandFor(
  { model, calibration, evaluation }: Recipe,
  file: string,
): {
  readonly command: string;
  readonly placeholders: string;
} {
  const isHere = !isShipped(model) && (existsSync(model!) || !isHubId(model!));
  const [hasText, hasTest] = [calibration.data !== undefined, evaluation.data !== undefined];
  const hasImatrix = calibration.imatrix !== undefined;
  const words = [
    ...(isHere ? ['MODEL'] : []),
    `--recipe ${file}`,
    ...(hasText ? ['--calibration TEXT'] : []),
    ...(hasImatrix ? ['--imatrix IMATRIX'] : []),
    ...(hasTest ? ['--evaluation TEST'] : []),
  ];
  const meant = [
    ...(isHere ? ['MODEL the original'] : []),
    ...(hasText ? ['TEXT the calibration text'] : []),
    ...(hasImatrix ? ['IMATRIX the importance matrix'] : []),
    ...(hasTest ? ['TEST the text that the loss is measured on'] : []),
  ];
  return {
    command: `lapidary compress ${words.join(' ')}`,
    placeholders: meant.length > 0 ? `Here ${meant.join(', ')}; their hashes are in the table.` : '',
  };
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

/** "gptq (bits 3) on blocks": the options that are not as they are by default. */
function describeStep(step: Step): string {
  const { method, options } = step;
  const defaults = method.options.parse({}) as Readonly<Record<string, unknown>>;
  const settings = Object.entries(options).filter(([key, value]) => value !== defaults[key]);
  const said = settings.map(([key, value]) => `${key} ${value}`).join(', ');
  const named = `${method.name}${said ? ` (${said})` : ''}`;
  return isCompression(step) ? `${named} on ${step.targets.join(' and ')}` : named;
}

function machine(): string {
  const [first] = cpus();
  return `Node ${process.versions.node}, ${process.platform} ${process.arch}, ${cpus().length} cores, ${first?.model.trim() ?? 'unknown'}`;
}
