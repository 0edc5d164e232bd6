import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ExitCode, LapidaryError } from '../base/errors.ts';
import { walk } from '../calibrate/walk.ts';
import { exportTransformers } from '../export/transformers.ts';
import type { Model } from '../models/model.ts';
import type { OpenedCheckpoint } from '../open.ts';
import { openForCompression } from '../open.ts';
import type { Plan } from './plan.ts';
import { checkDisk, memoryWarning, planRun } from './plan.ts';
import { assignment } from '../run/assignment.ts';
import { readTexts } from '../run/texts.ts';
import type { PlainRecipe } from '../recipe/recipe.ts';
import { checkRecipe } from '../recipe/recipe.ts';

const folder = mkdtempSync(join(tmpdir(), 'lapidary-plan-'));
afterAll(() => rmSync(folder, { recursive: true }));

let original: OpenedCheckpoint;
beforeAll(async () => {
  original = await openForCompression(undefined);
});

const rtn = (bits: number, ...targets: ('blocks' | 'embeddings')[]) => ({
  method: 'rtn',
  bits,
  group: 32,
  targets,
});
const gptq = { method: 'gptq', bits: 4, group: 32, targets: ['blocks' as const] };

async function planned(input: Partial<PlainRecipe>, out = join(folder, 'out')): Promise<Plan> {
  const recipe = checkRecipe({ steps: [gptq], ...input });
  const texts = await readTexts(recipe, original, () => {});
  return planRun({ original, recipe, texts, out });
}

const phaseOf = ({ memory }: Plan, name: string) => memory.phases.find(({ phase }) => phase === name)!;
const partOf = (plan: Plan, name: string, part: string) =>
  phaseOf(plan, name).parts.find(({ what }) => what === part)?.bytes ?? 0;

describe('the memory of a run', () => {
  it('is the sum of its parts by phase, in the order of the run, and its largest phase is named', async () => {
    const { memory } = await planned({ steps: [gptq, rtn(8, 'embeddings')] });
    expect(memory.phases.map(({ phase }) => phase)).toEqual([
      'load',
      'compress the embeddings',
      'compress the blocks',
      'write, verify and evaluate',
      'measure speed',
      'answer prompts',
    ]);
    for (const { bytes, parts } of memory.phases)
      expect(bytes).toBe(parts.reduce((sum, part) => sum + part.bytes, 0));
    expect(memory.bytes).toBe(Math.max(...memory.phases.map(({ bytes }) => bytes)));
    expect(memory.phases.find(({ phase }) => phase === memory.largest)!.bytes).toBe(memory.bytes);
    expect(memory.machine).toBeGreaterThan(2 ** 29);
  });

  it('grows with the calibration text by its hidden states, and with its length by attention', async () => {
    const name = 'compress the blocks';
    const hidden = 'hidden states of the calibration text';
    const values = 'values while they run';
    const [few, many, long] = [
      await planned({ calibration: { sequences: 8, length: 64 } }),
      await planned({ calibration: { sequences: 24, length: 64 } }),
      await planned({ calibration: { sequences: 8, length: 512 } }),
    ];
    expect(partOf(few, name, hidden)).toBe(8 * 64 * 256 * 4);
    expect(partOf(many, name, hidden)).toBe(24 * 64 * 256 * 4);
    // As many tokens in a run, or nearly; each sees eight times as many.
    expect(partOf(long, name, values)).toBeGreaterThan(1.5 * partOf(many, name, values));
    expect(phaseOf(many, name).bytes).toBeGreaterThan(phaseOf(few, name).bytes);
  });

  it('holds no calibration text where there is none, and no evaluation', async () => {
    const recipe = checkRecipe({ steps: [rtn(4, 'blocks')] });
    const texts = { calibration: [], verification: Int32Array.of(1, 2, 3) };
    const plan = await planRun({ original, recipe, texts, out: folder });
    const parts = phaseOf(plan, 'compress the blocks').parts.map(({ what }) => what);
    for (const part of ['hidden states of the calibration text', 'statistics', 'values while they run'])
      expect(parts).not.toContain(part);
    expect(plan.memory.phases.map(({ phase }) => phase)).toContain('write and verify');
  });

  it('knows of answers to prompts where they are asked: of small models always, of large ones with their speed', async () => {
    const recipe = checkRecipe({ steps: [rtn(4, 'blocks')] });
    const texts = { calibration: [], verification: Int32Array.of(1, 2, 3) };
    const asks = async (model: Model, input: { speed?: boolean; answers?: boolean }) => {
      const large = { ...original, model };
      const { memory } = await planRun({ original: large, recipe, texts, out: folder, ...input });
      return memory.phases.some(({ phase }) => phase === 'answer prompts');
    };
    const { model } = original;
    const vector = { ...model.vectors.get('model.norm')!, shape: [2 ** 27] };
    const large = { ...model, vectors: new Map([...model.vectors, ['large', vector]]) };
    expect(await asks(model, { speed: false })).toBe(true);
    expect(await asks(model, { speed: false, answers: false })).toBe(false);
    expect(await asks(large, { speed: true })).toBe(true);
    expect(await asks(large, { speed: false })).toBe(false);
  });

  it('holds cosines of all positions up to a length, behind which they are computed', async () => {
    const recipe = checkRecipe({ steps: [rtn(4, 'blocks')] });
    const texts = { calibration: [], verification: Int32Array.of(1, 2, 3) };
    const { model } = original;
    const resultOf = async (context: number) => {
      const longer = { ...original, model: { ...model, config: { ...model.config, context } } };
      const { disk } = await planRun({ original: longer, recipe, texts, out: folder });
      return disk.parts[0]!.bytes;
    };
    const { headSize } = model.config.layers[0]!;
    const [short, long, computed] = [await resultOf(512), await resultOf(2 ** 17), await resultOf(2 ** 18)];
    expect(long - short).toBe(4 * headSize * (2 ** 17 - 512));
    expect(short - computed).toBe(4 * headSize * 512);
  });

  it('takes no more for importance out of a file than without any', async () => {
    const texts = { calibration: [], verification: Int32Array.of(1, 2, 3) };
    const kernels = async (fit: string, imatrix?: string) => {
      const steps = [{ method: 'ggml', type: 'Q4_K_M', fit, targets: ['embeddings' as const] }];
      const recipe = checkRecipe({ steps, export: { format: 'gguf' }, calibration: { imatrix } });
      const plan = await planRun({ original: wide, recipe, texts, out: folder });
      return partOf(plan, 'compress the embeddings', 'memory of the kernels');
    };
    // An embedding of more weights than are taken at once.
    const { model } = original;
    const [name, vocabulary] = ['model.embed_tokens', 2 ** 17];
    const table = { ...model.matrices.get(name)!, shape: [vocabulary, model.config.hidden] as const };
    const config = { ...model.config, vocabulary };
    const matrices = new Map([...model.matrices, [name, table]]);
    const wide = { ...original, model: { ...model, config, matrices } };
    expect(await kernels('importance', 'imatrix.gguf')).toBe(await kernels('plain'));
    expect(await kernels('importance')).toBeGreaterThan(await kernels('plain'));
  });

  it('is warned of only where there is less: by phase, with what to change', async () => {
    const { memory } = await planned({});
    expect(memoryWarning({ memory })).toBeUndefined();
    const tight = { ...memory, machine: memory.bytes - 1 };
    expect(memoryWarning({ memory: tight })).toMatch(
      /to compress the blocks, this run takes about 0\.\d GB of memory, and here are 0\.\d GB.*fewer --sequences or a smaller --length/,
    );
  });
});

describe('the disk that a run takes', () => {
  it.each([
    [[rtn(4, 'blocks'), rtn(8, 'embeddings')], 'float32'],
    [[rtn(2, 'blocks')], 'float16'],
  ] as const)(
    'is what is written, and a little for tokenizer, card and report: %j, %s',
    async (steps, activations) => {
      const input = { steps: [...steps], export: { activations } };
      const { disk } = await planned(input);
      const assign = assignment(checkRecipe(input), original.model);
      const { model } = await walk(original.model, [], { assign });
      for (const [index, each] of [model, original.model].entries()) {
        const [{ bytes }] = exportTransformers(each, join(folder, `${index}`), { files: [{ activations }] });
        const small = disk.parts[index]!.bytes - bytes;
        expect(small / 2 ** 20, disk.parts[index]!.what).toBeGreaterThan(3.5);
        expect(small / 2 ** 20, disk.parts[index]!.what).toBeLessThan(4.3);
      }
    },
  );

  it('is less by what an earlier run has kept', async () => {
    const kept = async () => (await planned({})).disk.parts.at(-1)!.bytes;
    const before = await kept();
    const journal = join(folder, '.out.journal');
    mkdirSync(journal);
    writeFileSync(join(journal, 'tables.safetensors'), Buffer.alloc(1e6));
    expect(await kept()).toBe(before - 1e6);
    rmSync(journal, { recursive: true });
  });

  it('is refused where there is less: what is needed, what is free, where, and what to do', async () => {
    const { disk } = await planned({});
    expect(disk.where).toBe(folder);
    expect(disk.free).toBeGreaterThan(0);
    expect(() => checkDisk([{ disk }])).not.toThrow();
    let found: unknown;
    try {
      checkDisk([{ disk: { ...disk, free: 1e6 } }]);
    } catch (error) {
      found = error;
    }
    expect(found).toBeInstanceOf(LapidaryError);
    const { exitCode, problem } = found as LapidaryError;
    expect(exitCode).toBe(ExitCode.system);
    expect(problem).toMatchObject({ where: folder, found: '1 MB free' });
    expect(problem.expected).toMatch(/^\d+ MB: the result \d+ MB; the original, .* \d+ MB/);
    expect(problem.fix).toContain('another disk');
  });

  it.skipIf(process.platform !== 'linux')(
    'is not checked where the file system does not say (skipped but on Linux)',
    async () => {
      expect(statSync('/proc').isDirectory()).toBe(true);
      const { disk } = await planned({}, '/proc/none/out');
      expect(disk).toMatchObject({ where: '/proc', free: undefined });
      expect(() => checkDisk([{ disk }])).not.toThrow();
    },
  );
});
