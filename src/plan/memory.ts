/**
 * Memory of a run by phase. What is held is known from shapes: weights, statistics, hidden states, the values of a
 * graph while it runs. What engine and runtime take on top is measured (docs/benchmarks.md).
 */

import { existsSync, statSync } from 'node:fs';
import { totalmem } from 'node:os';
import { extname } from 'node:path';
import { defaultThreads } from '../base/threads.ts';
import { rowsOf } from '../evaluate/scorer.ts';
import { measuresLevels } from '../export/accuracy.ts';
import { asLinear } from '../calibrate/compress.ts';
import { isInTurn } from '../calibrate/planned.ts';
import { fewBytes, narrow } from '../calibrate/streams.ts';
import { blockKinds } from './blocks.ts';
import type { Facts, Part, PlannedMatrix } from './facts.ts';
import { total } from '../base/total.ts';
import { most, positionBytes } from './facts.ts';
import { blockTrainings } from '../run/assignment.ts';
import { calibrationFile } from '../run/texts.ts';
import { blockTraining, modelBatch, modelTraining } from './training.ts';

export interface Phase {
  readonly phase: string;
  /** At its peak. */
  readonly bytes: number;
  readonly parts: readonly Part[];
  /** What makes it smaller. */
  readonly less: string;
}

export interface MemoryPlan {
  /** In the order of the run. */
  readonly phases: readonly Phase[];
  /** Name of the phase that takes most. */
  readonly largest: string;
  /** What it takes. */
  readonly bytes: number;
  /** Bytes that this process may use: the machine's memory, or what it is limited to. */
  readonly machine: number;
}

const MiB = 2 ** 20;

/** Node with the engine and everything that is loaded, before there is a model. */
const processBytes = 120 * MiB;
/** Of a thread that the kernels run on. */
const threadBytes = 9 * MiB;
/** Of a token in the tokenizer's tables. */
const tokenBytes = 2000;
/** What the engine keeps over what a graph's values need at once: pieces that fit nothing else. */
const arenaShare = 1.3;
/** Arrays that nobody needs any more, until the runtime looks for them: as many again as are in use, but no more than this. */
const mostLate = 128 * MiB;
/** The same of what is small, after some work. */
const alwaysLate = 60 * MiB;
/** Of what a phase takes, what the system has not got back when the next begins, and the ones after that. */
const lingering = { next: 0.85, later: 0.55 };
/** A file in the engine, over its bytes: packed weights are laid out again, 16-bit ones become float32 on the CPU. */
const engineShare = { packed: 2.2, dense: 2.6 };
/** Tokens of one run, in the walk and in evaluation. */
const batchTokens = 2048;
/** Weights that a method which needs no data takes at once. */
const atOnce = 2 ** 24;
/** Hidden states that evaluation holds. */
const evaluatedHidden = 256 * MiB;
/** Tokens that speed is measured with, and those that a prompt and its answer have. */
const [raced, answered] = [160, 64];

export function planMemory(facts: Facts): MemoryPlan {
  const owns: number[] = [];
  const phases = demands(facts).map(({ phase, parts, less }): Phase => {
    const rounded = parts
      .map(({ what, bytes }) => ({ what, bytes: Math.round(bytes) }))
      .filter(({ bytes }) => bytes > 0);
    const own = total(rounded.map(({ bytes }) => bytes));
    const left = leftBy(owns) - own;
    if (left > 0) rounded.push({ what: 'not yet given back by earlier phases', bytes: left });
    owns.push(own);
    return { phase, bytes: own + Math.max(0, left), parts: rounded, less };
  });
  const largest = phases.reduce((found, phase) => (phase.bytes > found.bytes ? phase : found));
  return { phases, largest: largest.phase, bytes: largest.bytes, machine: machineBytes() };
}

/** What phases that took so much leave for the next. */
function leftBy(owns: readonly number[]): number {
  const share = (bytes: number, part: number) => part * Math.max(0, bytes - processBytes);
  const left = Math.max(share(owns.at(-1) ?? 0, lingering.next), share(most(owns), lingering.later));
  return Math.round(processBytes + left);
}

type Demand = Omit<Phase, 'bytes'>;

function demands(facts: Facts): Demand[] {
  const { matrices, texts, speed, answers } = facts;
  const chosen = matrices.filter(({ assigned }) => assigned);
  const at = (...places: readonly PlannedMatrix['place'][]) =>
    chosen.filter(({ place }) => places.includes(place));
  const [tables, blocks, head] = [at('embedding', 'positions'), at('block'), at('head', 'exit')];
  const text = 'fewer --sequences or a smaller --length';
  return [
    { phase: 'load', parts: loading(facts), less: 'a smaller file of text' },
    ...(tables.length > 0
      ? [
          {
            phase: 'compress the embeddings',
            parts: compressing(facts, tables),
            less: '--embedding-bits 16, which keeps them',
          },
        ]
      : []),
    ...(blocks.length > 0
      ? [{ phase: 'compress the blocks', parts: compressing(facts, blocks), less: text }]
      : []),
    ...(head.length > 0 ? [{ phase: 'compress the head', parts: compressing(facts, head), less: text }] : []),
    ...(modelBatch(facts.recipe) > 0
      ? [
          {
            phase: 'train the whole model',
            parts: [...afterWalk(facts, 0), ...modelTraining(facts)],
            less: 'a smaller --batch or --length',
          },
        ]
      : []),
    texts.evaluation
      ? { phase: 'write, verify and evaluate', parts: evaluating(facts), less: 'a smaller --length' }
      : { phase: 'write and verify', parts: verifying(facts), less: 'a smaller model' },
    ...(speed
      ? [{ phase: 'measure speed', parts: racing(facts, raced), less: '--no-speed, which leaves it out' }]
      : []),
    ...(answers
      ? [
          {
            phase: 'answer prompts',
            parts: racing(facts, answered),
            less: '--no-answers, which leaves it out',
          },
        ]
      : []),
  ];
}

/** What is there from the beginning to the end. */
const standing = ({ model }: Facts): Part[] => [
  { what: 'Node and the engine', bytes: processBytes },
  { what: 'tokenizer', bytes: tokenBytes * model.config.vocabulary },
];

function loading(facts: Facts): Part[] {
  const { matrices, recipe } = facts;
  const whole = [calibrationFile(recipe), recipe.evaluation.data].filter(
    (path) => path !== undefined && extname(path) !== '.parquet' && existsSync(path),
  );
  return [
    ...standing(facts),
    { what: 'one tensor at a time', bytes: most(matrices.map(({ before }) => before)) },
    // As bytes, as text, and as documents.
    { what: 'text', bytes: 3 * total(whole.map((path) => statSync(path!).size)) },
    { what: 'freed late', bytes: Math.min(mostLate / 4, total(matrices.map(({ before }) => before))) },
  ];
}

/** One of the walk's parts: of blocks only one at a time. */
function compressing(facts: Facts, chosen: readonly PlannedMatrix[]): Part[] {
  const seen = facts.texts.calibration.length > 0;
  const { hidden, weights, values, statistics } = runsOf(facts, chosen);
  const done = facts.matrices.filter(({ assigned }) => assigned);
  const isFirst = chosen.every(isTable);
  const earlier = isFirst ? chosen : done;
  const workOf = (matrices: readonly PlannedMatrix[]) =>
    most(matrices.map((matrix) => workOn(facts, matrix, seen)));
  const later = isFirst && values === 0 ? 0 : alwaysLate;
  // What blocks ran in before is given back.
  const training = chosen.some(({ place }) => place === 'block') ? blockTraining(facts) : 0;
  const late = later + Math.min(mostLate, hidden + statistics + workOf(earlier));
  return [
    ...standing(facts),
    rewrittenWeights(facts),
    { what: 'hidden states of the calibration text', bytes: hidden },
    { what: 'values between the layers of a block', bytes: betweenLayers(facts, chosen) },
    { what: 'weights in the engine', bytes: weights },
    { what: 'values while they run', bytes: arenaShare * values },
    { what: 'statistics', bytes: statistics },
    { what: 'more while a block is trained', bytes: Math.max(0, training - arenaShare * values) },
    { what: 'what is compressed already', bytes: total(earlier.map(({ after }) => after)) },
    { what: 'work on a matrix', bytes: workOf(chosen) },
    kernelMemory(facts, earlier),
    kernelThreads(),
    { what: 'freed late', bytes: late },
  ];
}

const isTable = ({ place }: PlannedMatrix): boolean => place === 'embedding' || place === 'positions';

/** What runs over the calibration text for these matrices, in bytes. */
function runsOf(facts: Facts, chosen: readonly PlannedMatrix[]) {
  const { model, matrices, texts } = facts;
  const { config } = model;
  const length = texts.calibration[0]?.length ?? 0;
  // Tables are only looked up, unless one is fitted as the head that it also is.
  const fitsTable = matrices.some((matrix) => isTable(matrix) && isFitted(facts, matrix));
  const isFirst = chosen.every(isTable);
  if (length === 0 || (isFirst && !fitsTable)) return { hidden: 0, weights: 0, values: 0, statistics: 0 };
  const batch = Math.min(texts.calibration.length, Math.floor(batchTokens / length) || 1);
  const kinds = blockKinds(facts, { batch, time: length });
  const plain = total(kinds.map(({ values }) => values));
  // Beside the graphs that stay: those that collect, one of each stream at a time.
  const collecting = streams(facts) > 1 ? 2 : 0;
  const all = total(kinds.map(({ values, variants }) => (1 + variants + collecting) * values));
  const two = 2 * most(kinds.map(({ values }) => values));
  const isBlock = chosen.every(({ place }) => place === 'block');
  const layers = config.layers.map((_, layer) => chosen.filter((matrix) => matrix.layer === layer));
  return {
    hidden: 4 * tokensOf(texts.calibration) * config.hidden * streams(facts),
    weights: most((isBlock ? layers : [chosen]).map((each) => total(each.map(({ dense }) => dense)))),
    // What ran before is kept until the walk ends, or given back where blocks are trained.
    values: isFirst ? plain : (trained(facts) ? two : all) + (fitsTable ? plain : 0),
    // The sums so far, and the same with a batch added.
    statistics: 2 * (isBlock ? most(kinds.map(({ squares }) => squares)) : 4 * config.hidden ** 2),
  };
}

/** Layers that are compressed one after the other: what the widest of them is fed, and training wants the block's input still. */
function betweenLayers(facts: Facts, chosen: readonly PlannedMatrix[]): number {
  const inTurn = chosen.filter(({ place, assigned }) => assigned && isInTurn({ place, ...assigned }));
  if (inTurn.length === 0) return 0;
  const widest = most(inTurn.map(({ shape }) => shape[1]));
  const { hidden } = facts.model.config;
  const held = streams(facts);
  const bytesOf = (perToken: number) => 4 * tokensOf(facts.texts.calibration) * perToken;
  // Beside the hidden states that stay; what is wider than others and much is not kept.
  const kept = Math.min(bytesOf(widest), Math.max(bytesOf((narrow - 1) * hidden), fewBytes));
  if (trained(facts)) return 2 * (kept + bytesOf(hidden));
  // The original's way past the widest layer is not kept.
  return Math.max(kept, held * bytesOf(hidden));
}

/** Whether blocks are. */
const trained = ({ matrices, recipe }: Facts): boolean =>
  blockTrainings(recipe).length > 0 || matrices.some(({ assigned }) => assigned?.method.shape === 'train');

/** What the compressed model makes of the text and, where somebody compares, what the original does of a share of it. */
function streams(facts: Facts): number {
  if (trained(facts)) return 2;
  const shares = facts.matrices.map(({ assigned }) => {
    if (!assigned || asLinear(assigned.method).statistic(assigned.options) !== 'cross') return 0;
    return asLinear(assigned.method).compared?.(assigned.options) ?? 1;
  });
  return 1 + most(shares);
}

/** A rewrite of the whole model leaves its weights in float32 until they are compressed. */
const rewrittenWeights = ({ recipe, matrices }: Facts): Part => ({
  what: 'rewritten weights',
  bytes: recipe.steps.some(({ method }) => method.shape === 'rewrite' && method.scope === 'model')
    ? total(matrices.map(({ dense }) => dense))
    : 0,
});

const tokensOf = (sequences: readonly Int32Array[]): number => total(sequences.map(({ length }) => length));

/** Whether a method asks for data that the walk collects: squares may stand in a file. */
function isFitted({ recipe }: Facts, { assigned }: PlannedMatrix): boolean {
  const asked = assigned ? asLinear(assigned.method).statistic(assigned.options) : 'none';
  return asked !== 'none' && !(asked === 'squares' && recipe.calibration.imatrix !== undefined);
}

/** The values, and those after for the error; where there is a Gram matrix, copies of it and its factor. */
function workOn(facts: Facts, matrix: PlannedMatrix, seen: boolean): number {
  const { dense, shape } = matrix;
  return 2 * dense + (isFitted(facts, matrix) && seen ? dense + 8 * shape[1] ** 2 : 0);
}

/** It only grows, and stays. */
const kernelMemory = (facts: Facts, worked: readonly PlannedMatrix[]): Part => ({
  what: 'memory of the kernels',
  bytes: most(worked.map((matrix) => kernelBytes(facts, matrix))),
});

/** Weights twice in float32, codes and packed codes. */
function kernelBytes(facts: Facts, matrix: PlannedMatrix): number {
  const weights = matrix.dense / 4;
  return 10 * (isFitted(facts, matrix) ? weights : Math.min(weights, atOnce));
}

/** @param arrays bytes of those that come and go */
const afterWalk = (facts: Facts, arrays: number): Part[] => [
  ...standing(facts),
  {
    what: 'compressed matrices',
    bytes: total(facts.matrices.map(({ assigned, after }) => (assigned ? after : 0))),
  },
  kernelMemory(
    facts,
    facts.matrices.filter(({ assigned }) => assigned),
  ),
  kernelThreads(),
  { what: 'freed late', bytes: alwaysLate + Math.min(mostLate, arrays) },
];

/** Helpers of the caller's thread. */
const kernelThreads = (): Part => ({
  what: 'threads of the kernels',
  bytes: threadBytes * (Math.min(defaultThreads(), 64) - 1),
});

function verifying(facts: Facts): Part[] {
  const { model, texts } = facts;
  const logits = 3 * 4 * texts.verification.length * model.config.vocabulary;
  return [...afterWalk(facts, logits), fileInEngine(facts), { what: 'logits of a sequence', bytes: logits }];
}

function evaluating(facts: Facts): Part[] {
  const { model, texts, matrices, recipe } = facts;
  const { vocabulary, hidden } = model.config;
  const { sequences } = texts.evaluation!;
  const longest = most(sequences.map(({ length }) => length));
  const states = 4 * hidden * tokensOf(sequences);
  const rows = Math.min(rowsOf(vocabulary), longest);
  const batch = Math.max(1, Math.min(sequences.length, Math.floor(batchTokens / longest)));
  const kinds = blockKinds(facts, { batch, time: longest });
  const logits = 12 * 4 * rows * vocabulary;
  // The original goes block by block, and so does a GGUF file.
  const twice = recipe.export.format === 'gguf';
  const head = most(matrices.map(({ place, dense }) => (place === 'block' ? 0 : dense)));
  const values = kinds.map((kind) => (twice ? 1 + kind.variants : 1) * kind.values);
  const held = Math.min(states, Math.max(evaluatedHidden, 4 * hidden * longest));
  const file = fileInEngine(facts);
  return [
    ...afterWalk(facts, logits),
    file,
    { what: 'the same with other products', bytes: measuresLevels(recipe.export) ? file.bytes : 0 },
    { what: 'hidden states of the evaluation text', bytes: (twice ? 2 : 1) * held },
    { what: 'values while blocks run', bytes: arenaShare * total(values) },
    { what: twice ? 'both heads' : "the original's head", bytes: (twice ? 2 : 1) * head },
    // The engine's and ours of both models, and what comparing them takes.
    { what: 'logits', bytes: logits },
  ];
}

/** Both run as their users run them, one after the other. @param tokens of each run */
function racing(facts: Facts, tokens: number): Part[] {
  const { matrices, recipe, model } = facts;
  const plain = total(matrices.map(({ inPlainFile }) => inPlainFile));
  const dense = total(matrices.map((matrix) => matrix.dense / 2));
  const logits = 4 * tokens * model.config.vocabulary;
  return [
    ...afterWalk(facts, logits),
    recipe.export.format === 'gguf'
      ? { what: 'the original in llama.cpp, a process of its own', bytes: plain }
      : { what: 'the original in the engine', bytes: engineShare.dense * dense + positionBytes(facts) },
    { what: 'logits', bytes: logits },
  ];
}

/** The written file as it is run; GGUF files are evaluated block by block. */
function fileInEngine(facts: Facts): Part {
  const { matrices, recipe } = facts;
  const what = 'the written file in the engine';
  if (recipe.export.format === 'gguf') return { what, bytes: 0 };
  const each = matrices.map(({ inFile, dense }) =>
    inFile < dense / 2 ? engineShare.packed * inFile : (engineShare.dense * dense) / 2,
  );
  // A product that has no kernel of its own takes its matrix in float32.
  const widest = most(matrices.map(({ dense }) => dense));
  return { what, bytes: total(each) + widest + positionBytes(facts) };
}

function machineBytes(): number {
  const limit = process.constrainedMemory();
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem();
}

/** One line, where a phase takes more than there is: which one, and what to change. */
export function memoryWarning({ memory }: { readonly memory: MemoryPlan }): string | undefined {
  const { bytes, machine, largest, phases } = memory;
  if (bytes <= machine) return undefined;
  const { less } = phases.find(({ phase }) => phase === largest)!;
  const gigabytes = (value: number) => `${(value / 1e9).toFixed(1)} GB`;
  return (
    `to ${largest}, this run takes about ${gigabytes(bytes)} of memory, and here are ${gigabytes(machine)}: ` +
    `the system may end it; what helps is ${less}`
  );
}
