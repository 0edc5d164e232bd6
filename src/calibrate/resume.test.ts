import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { tinyLlama } from '../../test/models/tiny.ts';
import { random } from '../base/random.ts';
import { openJournal } from '../io/journal.ts';
import type { BlockRewrite, Compressor, LinearMethod } from '../contract/method.ts';
import { findMethod } from '../methods/index.ts';
import { addExit } from '../models/exits.ts';
import { keepLayers } from '../models/layers.ts';
import { blockAp } from '../methods/quantize/block-ap.ts';
import type { Model } from '../models/model.ts';
import { readUnit } from './resume.ts';
import type { LayerRow, WalkOptions } from './planned.ts';
import { targetsOf } from './targets.ts';
import { walk } from './walk.ts';

const root = mkdtempSync(join(tmpdir(), 'lapidary-resume-'));
afterAll(() => rmSync(root, { recursive: true }));
let count = 0;
const place = () => join(root, `${count++}`, 'out');
const journalOf = (output: string) => openJournal(output, {}, { warn: () => {} });
const unitFile = (output: string, unit: string) => join(output, '..', '.out.journal', `${unit}.safetensors`);

const source = random(2);
const sequences = Array.from({ length: 6 }, () => Int32Array.from({ length: 16 }, () => source.integer(10)));

/** GPTQ, and what it was called with: the shapes of matrices, in order. */
function counted() {
  const method = findMethod('gptq') as LinearMethod;
  const calls: string[] = [];
  const options = method.options.parse({ bits: 4, group: 16 });
  const counting: LinearMethod = {
    ...method,
    compress(matrix, ...rest) {
      calls.push(`${matrix.rows}x${matrix.columns}`);
      return method.compress(matrix, ...rest);
    },
  };
  return { calls, assign: (() => ({ method: counting, options })) satisfies WalkOptions['assign'] };
}

const bytesOf = (model: Model) =>
  [...model.matrices].flatMap(([name, { label, tensors }]) => [
    name,
    label,
    ...[...tensors].map(([suffix, { dtype, shape, bytes }]) => [suffix, dtype, shape, [...bytes()]]),
  ]);
const untimed = (layers: readonly LayerRow[]) => layers.map((row) => ({ ...row, seconds: 0 }));

/** Walks until so many matrices are done. */
async function interrupted(model: Model, output: string, matrices: number): Promise<void> {
  const controller = new AbortController();
  const walking = walk(model, sequences, {
    threads: 1,
    assign: counted().assign,
    journal: journalOf(output),
    signal: controller.signal,
    progress: ({ done }) => done === matrices && controller.abort(),
  });
  await expect(walking).rejects.toThrow(/abort/);
}

describe.each([true, false])('a walk that is interrupted, with the head tied: %s', (tied) => {
  const model = tinyLlama({ tied });
  const total = tied ? 15 : 16;

  it('continues behind the last part that was finished, and makes the same bytes', async () => {
    const whole = await walk(model, sequences, { threads: 1, assign: counted().assign });
    expect([whole.resumed, whole.layers.length]).toEqual([0, total]);
    for (const [done, resumed] of [
      [1, 1],
      [2, 1],
      [7, 1],
      [9, 8],
      [total - 1, tied ? 8 : 15],
    ]) {
      const output = place();
      await interrupted(model, output, done);
      const { calls, assign } = counted();
      const reached: number[] = [];
      const again = await walk(model, sequences, {
        threads: 1,
        assign,
        journal: journalOf(output),
        progress: (event) => reached.push(event.done),
      });
      expect([done, again.resumed, calls.length]).toEqual([done, resumed, total - resumed]);
      expect(bytesOf(again.model)).toEqual(bytesOf(whole.model));
      expect(untimed(again.layers)).toEqual(untimed(whole.layers));
      expect([reached[0], reached.at(-1)]).toEqual([resumed, total]);
    }
  });

  it('does nothing again when everything was finished, and says the seconds of then', async () => {
    const output = place();
    const first = await walk(model, sequences, {
      threads: 1,
      assign: counted().assign,
      journal: journalOf(output),
    });
    const { calls, assign } = counted();
    const again = await walk(model, sequences, { threads: 1, assign, journal: journalOf(output) });
    expect([again.resumed, calls]).toEqual([total, []]);
    expect(again.layers).toEqual(first.layers);
    expect(bytesOf(again.model)).toEqual(bytesOf(first.model));
  });

  it('does a damaged part again, from the parts around it', async () => {
    const output = place();
    const first = await walk(model, sequences, {
      threads: 1,
      assign: counted().assign,
      journal: journalOf(output),
    });
    writeFileSync(unitFile(output, 'block-0'), 'damaged');
    const { calls, assign } = counted();
    const again = await walk(model, sequences, { threads: 1, assign, journal: journalOf(output) });
    expect([again.resumed, calls.length]).toEqual([total - 7, 7]);
    expect(bytesOf(again.model)).toEqual(bytesOf(first.model));
    expect(untimed(again.layers)).toEqual(untimed(first.layers));
  });
});

describe('a walk over a model with exits', () => {
  const plain = tinyLlama({ tied: false });
  const model = addExit(plain, 0, { ...plain.matrices.get('lm_head')! });

  it('fits an exit as it fits the head of the model that ends there', async () => {
    const { assign } = counted();
    const walked = await walk(model, sequences, { threads: 1, assign });
    const short = await walk(keepLayers(plain, [0]), sequences, { threads: 1, assign });
    const stored = (of: Model, name: string) =>
      bytesOf({ ...of, matrices: new Map([['', of.matrices.get(name)!]]) });
    expect(stored(walked.model, 'exits.0.head')).toEqual(stored(short.model, 'lm_head'));
    expect(stored(walked.model, 'exits.0.head')).not.toEqual(stored(walked.model, 'lm_head'));
    const [exit, head] = [walked.layers, short.layers].map((rows) => ({ ...rows.at(-1)!, seconds: 0 }));
    expect(exit).toEqual({ ...head, name: 'exits.0.head' });
    // What stands behind the exit sees nothing of it.
    const without = await walk(plain, sequences, { threads: 1, assign });
    expect(untimed(walked.layers.slice(0, -1))).toEqual(untimed(without.layers));
  });

  it('fits an exit where nothing else is compressed', async () => {
    const { assign, calls } = counted();
    const only = ({ place }: { place: string }) => (place === 'exit' ? assign() : undefined);
    const walked = await walk(model, sequences, { threads: 1, assign: only });
    expect([calls, walked.layers.map(({ name, errorOf }) => [name, errorOf])]).toEqual([
      ['10x8'],
      [['exits.0.head', 'outputs']],
    ]);
  });

  it('compresses a matrix that the exit shares with the head or the embedding once, for both', async () => {
    for (const [tied, name] of [
      [false, 'lm_head'],
      [true, 'model.embed_tokens'],
    ] as const) {
      const walked = await walk(addExit(tinyLlama({ tied }), 0), sequences, {
        threads: 1,
        assign: counted().assign,
      });
      expect(walked.layers).toHaveLength(tied ? 15 : 16);
      expect(walked.model.matrices.get('exits.0.head')).toBe(walked.model.matrices.get(name));
    }
  });

  it('continues behind an exit that was finished, and makes the same bytes', async () => {
    const whole = await walk(model, sequences, { threads: 1, assign: counted().assign });
    const output = place();
    // The embedding, a block, the exit, and two matrices of the next block.
    await interrupted(model, output, 11);
    const { calls, assign } = counted();
    const again = await walk(model, sequences, { threads: 1, assign, journal: journalOf(output) });
    expect([again.resumed, calls.length]).toEqual([9, 8]);
    expect(bytesOf(again.model)).toEqual(bytesOf(whole.model));
    expect(untimed(again.layers)).toEqual(untimed(whole.layers));
  });
});

interface Kept {
  description: object;
  shape: number[];
  suffixes: string[];
  row: { name: string };
}

describe('a journal that does not fit the model', () => {
  it('is of no use, and of no harm', async () => {
    const output = place();
    const model = tinyLlama({ tied: true });
    const journal = journalOf(output);
    await walk(model, sequences, { threads: 1, assign: counted().assign, journal });
    const { tensors, data } = journal.read('block-0')!;
    const unit = data as { matrices: Kept[]; rewritten: unknown[]; vectors: unknown[] };
    const rows = unit.matrices;
    const targets = targetsOf(model).filter(({ layer }) => layer === 0);
    const withMatrices = (matrices: unknown) => ({ ...unit, matrices });
    const others: unknown[] = [
      null,
      'text',
      [],
      {},
      withMatrices(rows.slice(1)),
      withMatrices(rows.toReversed()),
      withMatrices(rows.map(() => null)),
      withMatrices(rows.map((each) => ({ ...each, row: { ...each.row, name: 'x' } }))),
      withMatrices(rows.map((each) => ({ ...each, shape: [1, 1] }))),
      withMatrices(rows.map((each) => ({ ...each, description: { kind: 'other' } }))),
      withMatrices(rows.map(({ shape, row, suffixes }) => ({ shape, row, suffixes }))),
      withMatrices(rows.map((each) => ({ ...each, suffixes: [] }))),
      withMatrices(rows.map((each) => ({ ...each, suffixes: ['codes', {}] }))),
      { ...unit, rewritten: [null] },
      { ...unit, rewritten: [{ name: 'x', description: {}, shape: [1, 1], suffixes: [] }] },
      { ...unit, vectors: ['model.norm.weight'] },
      { ...unit, vectors: [{}] },
    ];
    for (const other of others) {
      await journal.write('block-0', { tensors, data: other });
      expect([other, readUnit(journal, 'block-0', targets)]).toEqual([other, undefined]);
    }
    await journal.write('block-0', { tensors: new Map(), data });
    expect(readUnit(journal, 'block-0', targets)).toBeUndefined();
    await journal.write('block-0', { tensors, data });
    expect(readUnit(journal, 'block-0', targets)!.done).toHaveLength(7);
  });
});

describe.each([
  ['scaling', 'awq', 'rtn', {}, undefined],
  [
    'what earlier layers lost, layer after layer',
    undefined,
    'gptq',
    { asymmetric: 1, sequential: true, passes: 1 },
    undefined,
  ],
  ['training', undefined, 'autoround', { steps: 3 }, undefined],
  ['training of what is compressed', undefined, 'rtn', {}, { blockSteps: 3, codeRate: 0.1 }],
] as const)('a walk with %s that is interrupted', (_, rewrite, name, options, training) => {
  it('continues to the same bytes, of matrices and of vectors', async () => {
    const model = tinyLlama({ tied: true });
    const method = findMethod(name) as Compressor;
    const chosen = method.options.parse({ group: 16, ...options });
    const scaling = rewrite && (findMethod(rewrite) as BlockRewrite);
    const run = (more: Partial<WalkOptions>) =>
      walk(model, sequences, {
        threads: 1,
        assign: ({ place }) => (place === 'block' ? { method, options: chosen } : undefined),
        rewrites: scaling ? [{ method: scaling, options: scaling.options.parse({}) }] : [],
        trainings: training ? [{ method: blockAp, options: blockAp.options.parse(training) }] : [],
        ...more,
      });
    const whole = await run({});
    const output = place();
    const stopped = new AbortController();
    const progress: WalkOptions['progress'] = ({ done }) => done >= 9 && stopped.abort();
    await expect(run({ journal: journalOf(output), progress, signal: stopped.signal })).rejects.toThrow();
    const again = await run({ journal: journalOf(output) });
    expect(again.resumed).toBe(7);
    expect(bytesOf(again.model)).toEqual(bytesOf(whole.model));
    for (const [key, vector] of whole.model.vectors)
      expect(again.model.vectors.get(key)!.bytes()).toEqual(vector.bytes());
  });
});
