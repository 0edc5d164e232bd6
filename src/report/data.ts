/** Puts a run's report together: what is stored before and after, what was lost, with tokens as text. */

import { basename } from 'node:path';
import { targetsOf } from '../calibrate/targets.ts';
import type { Encoding } from '../encodings/encoding.ts';
import { encodedBytes } from '../encodings/encoding.ts';
import type { ChangedToken, EvaluationDetails } from '../evaluate/details.ts';
import type { Model } from '../models/model.ts';
import { layerOf } from '../models/size.ts';
import { plainRecipe } from '../recipe/recipe.ts';
import type { CompressReport, Measures } from './report.ts';
import type { ReportData, ReportEvaluation, ReportMeasures, ReportTensor } from './schema.ts';
import { structureChange } from './structure.ts';

export type { ReportData } from './schema.ts';
export { parseReport } from './schema.ts';

/** What the report has beyond the run's own. */
export interface ReportParts {
  /** Tensors have the names that they have in the other, where they are in both. */
  readonly original: Model;
  readonly compressed: Model;
  /** What was written: "ONNX for transformers.js (q4)", "GGUF Q4_K_M". */
  readonly target: string;
  /** What was done, in one line. */
  readonly summary: string;
  readonly files: ReportData['files'];
  /** Left out: nothing was measured. */
  readonly details?: EvaluationDetails | undefined;
  /** Where the text that losses were measured on is from, for people. */
  readonly evaluationData?: string | undefined;
  /** Ids to text, special tokens written out. */
  readonly decode: (ids: readonly number[]) => string;
  /** What ran when speed was measured. */
  readonly engine?: string | undefined;
  readonly reproduction: ReportData['reproduction'];
  readonly machine: string;
}

export function reportData(report: CompressReport, parts: ReportParts): ReportData {
  const { original, compressed } = report;
  const { details, evaluationData = 'text', engine = 'ONNX Runtime' } = parts;
  const speed = { ...defined('original', original.speed), ...defined('compressed', compressed.speed) };
  return {
    format: 1,
    name: [basename(report.out), ...(report.type === undefined ? [] : [report.type])].join(' '),
    model: report.model,
    modelType: report.modelType,
    target: parts.target,
    summary: parts.summary,
    notes: report.notes,
    original: measuresOf(original),
    compressed: measuresOf(compressed),
    ...(Object.keys(speed).length > 0 ? { speed: { ...speed, engine } } : {}),
    files: parts.files.map(fileOf),
    tensors: tensorsOf(report, parts),
    ...defined('structure', structureChange(parts.original.config, parts.compressed.config)),
    ...(report.answers?.length > 0 ? { answers: report.answers } : {}),
    ...defined('evaluation', details && evaluationOf(details, evaluationData, parts.decode)),
    // As JSON has it: without fields that are undefined.
    recipe: JSON.parse(JSON.stringify(plainRecipe(report.recipe))),
    reproduction: parts.reproduction,
    timings: { seconds: { ...report.seconds }, machine: parts.machine, finished: new Date().toISOString() },
  };
}

function measuresOf(measures: Measures): ReportMeasures {
  const { bytes, parameters, bitsPerWeight, multiplyAdds } = measures;
  const { tokens, nats, perplexity, perplexityRatio, bitsPerCharacter, kl, agreement } = measures;
  return {
    bytes,
    parameters,
    bitsPerWeight,
    multiplyAdds,
    ...defined('tokens', tokens),
    ...defined('nats', nats),
    ...defined('perplexity', perplexity),
    ...defined('perplexityRatio', perplexityRatio),
    ...defined('bitsPerCharacter', bitsPerCharacter),
    ...defined('kl', kl),
    ...defined('agreement', agreement),
  };
}

/** Without what else its maker knows of it. */
function fileOf({ path, type, bytes, checks }: ReportData['files'][number]): ReportData['files'][number] {
  const plain = checks.map(({ engine, worst, tolerance, maxDifference }) => ({
    engine,
    worst,
    tolerance,
    maxDifference,
  }));
  return { path, type, bytes, checks: plain };
}

/** Matrices in the order they are computed, those that are new behind the others, then vectors. */
function tensorsOf({ layers }: CompressReport, { original, compressed }: ReportParts): ReportTensor[] {
  const rows = new Map(layers.map((row) => [row.name, row]));
  const added = targetsOf(compressed).filter(({ name }) => !original.matrices.has(name));
  const targets = [...targetsOf(original), ...added];
  const nameOf = kindNames(targets.map(({ name, layer }) => withinLayer(original, name, layer)));
  const seen = [new Set<Encoding>(), new Set<Encoding>()];
  const matrices = targets.map(({ name, place, layer, shape }): ReportTensor => {
    const [before, after] = [original, compressed].map(({ matrices }, side) => {
      const encoding = matrices.get(name);
      if (!encoding) return undefined;
      // What several names share is stored once.
      const isShared = seen[side].has(encoding);
      seen[side].add(encoding);
      return isShared
        ? { label: 'shared', bytes: 0 }
        : { label: encoding.label, bytes: encodedBytes(encoding) };
    });
    const row = rows.get(name);
    return {
      name,
      kind: place === 'block' ? nameOf(withinLayer(original, name, layer)) : place,
      ...defined('layer', layer),
      shape: [...shape],
      ...defined('before', before),
      ...defined('after', after && row ? { label: row.encoding, bytes: row.bytesAfter } : after),
      ...(row ? { method: row.method, ...defined('sparsity', row.sparsity) } : {}),
      // Of a matrix of zeros no relative error is known.
      ...(row && Number.isFinite(row.error) ? { error: row.error, errorOf: row.errorOf } : {}),
    };
  });
  return [...matrices, ...vectorsOf(original, compressed)];
}

function vectorsOf(original: Model, compressed: Model): ReportTensor[] {
  const all = new Map([...compressed.vectors, ...original.vectors]);
  const names = [...new Set([...original.vectors.keys(), ...compressed.vectors.keys()])];
  return names.map((name) => {
    const [before, after] = [original, compressed].map(({ vectors }) => {
      const vector = vectors.get(name);
      return vector && { label: vector.dtype, bytes: vector.byteLength };
    });
    return {
      name,
      kind: 'norms and biases',
      ...defined('layer', layerOf(original.vectors.has(name) ? original : compressed, name)),
      shape: [...all.get(name)!.shape],
      ...defined('before', before),
      ...defined('after', after),
    };
  });
}

/** "self_attn.q_proj" of "model.layers.3.self_attn.q_proj". */
export function withinLayer({ architecture }: Model, name: string, layer: number | undefined): string {
  return layer === undefined ? name : name.slice(architecture.layerName(layer).length + 1);
}

/**
 * Names without their module, unless two then are the same: GPT-2 has attn.c_proj and mlp.c_proj. Experts are of one kind,
 * "experts.up_proj".
 */
export function kindNames(names: readonly string[]): (name: string) => string {
  const ofAny = (name: string) => name.replace(/\.\d+(?=\.)/g, '');
  const last = (name: string) => name.slice(name.lastIndexOf('.') + 1);
  const modules = new Map<string, Set<string>>();
  for (const name of names.map(ofAny))
    modules.set(last(name), (modules.get(last(name)) ?? new Set()).add(name));
  return (name) => (modules.get(last(name))?.size === 1 ? last(name) : ofAny(name));
}

function evaluationOf(
  { sequences, positions, divergences, changed }: EvaluationDetails,
  data: string,
  decode: ReportParts['decode'],
): ReportEvaluation {
  return {
    data,
    sequences,
    positions,
    divergences,
    changed: changed.map((token) => changedText(token, decode)),
  };
}

function changedText(
  { sequence, position, kl, context, target, original, compressed }: ChangedToken,
  decode: ReportParts['decode'],
): ReportEvaluation['changed'][number] {
  const before = decode(context);
  // Some tokenizers drop a token's leading space unless something is before it.
  const text = (id: number) => {
    const whole = decode([...context, id]);
    return whole.startsWith(before) && whole !== before ? whole.slice(before.length) : decode([id]);
  };
  const answer = ({ top, ...rest }: ChangedToken['original']) => ({ ...rest, top: text(top) });
  return {
    sequence,
    position,
    kl,
    context: before,
    target: text(target),
    original: answer(original),
    compressed: answer(compressed),
  };
}

/** A field that is there only where it has a value. */
function defined<K extends string, T>(key: K, value: T | undefined): { readonly [P in K]?: T } {
  return (value === undefined ? {} : { [key]: value }) as { [P in K]?: T };
}
