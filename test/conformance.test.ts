/**
 * What every method promises, whichever it is and whatever its family: nothing here knows a name. Besides the project's
 * own methods, some that stand in this folder alone (`conformance/`) show that a family needs no edit elsewhere.
 */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { LapidaryError } from '../src/base/errors.ts';
import { compress } from '../src/compress.ts';
import { encodedBytes } from '../src/encodings/encoding.ts';
import { formats } from '../src/formats/index.ts';
import { fitted } from '../src/formats/fitted.ts';
import type { Family, LinearMethod, Method, ModelRewrite } from '../src/contract/method.ts';
import type { Journal } from '../src/io/journal.ts';
import { openJournal } from '../src/io/journal.ts';
import { families } from '../src/methods/index.ts';
import type { Model } from '../src/models/model.ts';
import { bytes, parameters } from '../src/models/size.ts';
import { openForCompression, openModel } from '../src/open.ts';
import { describeOptions } from '../src/recipe/options.ts';
import { checkRecipe } from '../src/recipe/recipe.ts';
import { applyRecipe } from '../src/run/apply.ts';
import { openWords } from '../src/run/words.ts';
import { readTexts } from '../src/run/texts.ts';
import { asking } from './conformance/asking.ts';
import type { CountedFamily } from './conformance/counts.ts';
import { experts } from './conformance/experts.ts';
import { exit } from './conformance/exits.ts';
import { factorize } from './conformance/factorize.ts';
import { prune } from './conformance/prune.ts';
import { train } from './conformance/train.ts';
import type { Options } from './conformance/steps.ts';
import { fewSteps, isMany, stepsOf } from './conformance/steps.ts';
import { reshape } from './conformance/vocabulary.ts';
import { writeTinyCheckpoint } from './models/checkpoint.ts';

const folder = mkdtempSync(join(tmpdir(), 'lapidary-conformance-'));
afterAll(() => rmSync(folder, { recursive: true }));
/** A model that methods are tried on. */
async function subjectOf(name: string, json: CountedFamily['tried'] = {}) {
  const source = join(folder, name);
  await writeTinyCheckpoint(source, {
    num_hidden_layers: 3,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    intermediate_size: 128,
    ...json,
  });
  return { source, original: await openForCompression(source, {}) };
}
type Subject = Awaited<ReturnType<typeof subjectOf>>;
/** So many paragraphs in a file. */
function textOf(paragraphs: number) {
  const path = join(folder, `text-${paragraphs}.txt`);
  const paragraph = (i: number) =>
    `Once upon a time there were ${i} little stones. They all wanted to shine.`;
  writeFileSync(path, Array.from({ length: paragraphs }, (_, i) => paragraph(i)).join('\n\n'));
  return { data: path, separator: '\n\n' };
}
const calibration = { ...textOf(12), sequences: 3, length: 32 };
const evaluation = { ...textOf(2), sequences: 2, length: 32 };
const session = { threads: 1 };
const tiny = await subjectOf('tiny');

const own: readonly CountedFamily[] = [prune, factorize, reshape, experts, exit, asking, train];
const subjects = new Map<Family, Subject>();
for (const family of own) if (family.tried) subjects.set(family, await subjectOf(family.name, family.tried));
const cases = [...families, ...own].flatMap((family) =>
  family.methods.map((method) => ({
    family,
    method,
    subject: subjects.get(family) ?? tiny,
    name: `${family.name}: ${method.name}`,
  })),
);

const known = new Set(families.flatMap(({ methods }) => methods.map(({ name }) => name)));

const recipeOf = ({ source }: Subject, steps: readonly object[], format = 'onnx') =>
  checkRecipe(
    { model: source, steps, calibration, evaluation, export: { format, accuracyLevel: 0 } },
    'conformance',
  );

async function applied(subject: Subject, steps: readonly object[], journal?: Journal) {
  const { original } = subject;
  const recipe = recipeOf(subject, steps);
  const texts = await readTexts(recipe, original, () => {});
  const words = openWords(recipe, original, texts, session);
  const reread = async (model: Model) => (await words.of(model)).texts.calibration;
  return applyRecipe(original.model, recipe, texts, { ...session, reread, journal });
}

/**
 * Every option at each of its choices or ends, all options at once: the first of each, then the second, and again the first
 * of those that have no more. Of numbers that may be large, as of steps, there are as few as there can be.
 */
function extremes(method: Method): Options[] {
  const all = describeOptions(method.options).flatMap((option) => {
    const { name, type, choices, minimum, maximum } = option;
    const ends = [minimum, isMany(option) ? undefined : maximum].filter((end) => end !== undefined);
    const values = type === 'boolean' ? [false, true] : (choices ?? ends);
    return values.length > 0 ? [{ name, values }] : [];
  });
  const runs = Math.max(0, ...all.map(({ values }) => values.length));
  return Array.from({ length: runs }, (_, run) =>
    Object.fromEntries(all.map(({ name, values }) => [name, values[run % values.length]])),
  );
}

/** A method without its data: what rounding to the same codes gives. */
const plainly = (method: LinearMethod): LinearMethod => ({
  ...method,
  name: `plain ${method.name}`,
  statistic: () => 'none',
  sequential: () => false,
  fisher: () => 0,
  compress: (weight, _, options) => method.plain!(weight, options),
});

/** All that is stored, as one array a name. */
const storedIn = ({ matrices, vectors }: Model): Map<string, string> =>
  new Map([
    ...[...matrices].flatMap(([name, { tensors }]) =>
      [...tensors].map(
        ([suffix, tensor]) => [`${name}.${suffix}`, Buffer.from(tensor.bytes()).toString('base64')] as const,
      ),
    ),
    ...[...vectors].map(([name, vector]) => [name, Buffer.from(vector.bytes()).toString('base64')] as const),
  ]);

describe.each(cases)('$name', ({ family, method, subject }) => {
  const { original } = subject;
  it('gives the same bytes twice, finite, and counts exactly what is stored and how many weights there are', async () => {
    const steps = stepsOf(family, method, method.shape === 'train' ? fewSteps(method, 2) : {});
    const { model } = await applied(subject, steps);
    expect(storedIn((await applied(subject, steps)).model)).toEqual(storedIn(model));
    const unique = new Set(model.matrices.values());
    for (const { dense } of unique) expect(dense().every(Number.isFinite)).toBe(true);
    let stored = 0;
    for (const encoding of unique)
      for (const tensor of encoding.tensors.values()) stored += tensor.bytes().byteLength;
    for (const vector of model.vectors.values()) stored += vector.bytes().byteLength;
    expect(bytes(model)).toBe(stored);
    const { config } = original.model;
    const adds = 'adds' in family ? (family as CountedFamily).adds[method.name] : undefined;
    // As many as the original has, with another table where a head is told apart from its embedding.
    const untied = config.tiedHead && !model.config.tiedHead ? config.vocabulary * config.hidden : 0;
    expect(parameters(model)).toBe(parameters(original.model) + (adds?.(config) ?? untied));
  });

  // The project's own linear methods, matrix by matrix: src/methods/conformance.test.ts.
  const elsewhere = method.shape === 'linear' && known.has(method.name);
  it.skipIf(elsewhere)('takes each choice of every option, and its least', async () => {
    for (const own of extremes(method)) {
      const { model } = await applied(subject, stepsOf(family, method, own));
      for (const { dense } of new Set(model.matrices.values()))
        expect(dense().every(Number.isFinite), JSON.stringify(own)).toBe(true);
    }
  });

  it.runIf(method.shape === 'linear' && !method.convert)(
    'loses no more than what is naive: plain rounding to its codes, or the baseline of its family',
    async () => {
      const lost = async (given: Method) => {
        const { layers } = await applied(subject, [{ method: given, targets: ['blocks'] }]);
        return layers.reduce((sum, { error }) => sum + error, 0);
      };
      const naive = (method as LinearMethod).plain ? plainly(method as LinearMethod) : family.baseline;
      expect(await lost(method)).toBeLessThanOrEqual(1.0001 * (await lost(naive)));
    },
  );

  it.runIf(method.shape === 'rewrite' && method.scope === 'model')(
    'goes on behind it when a run is killed there, to the same bytes',
    async () => {
      const rewrite = method as ModelRewrite;
      const [baseline] = families.map((each) => each.baseline as LinearMethod);
      let [made, killed] = [0, false];
      const counted: ModelRewrite = {
        ...rewrite,
        name: `counted ${rewrite.name}`,
        rewrite(...given) {
          made++;
          return rewrite.rewrite(...given);
        },
      };
      const mortal: LinearMethod = {
        ...baseline!,
        name: 'mortal',
        compress(...given) {
          if (!killed) throw new Error('killed');
          return baseline!.compress(...given);
        },
      };
      const own = [{ method: counted, ...fewSteps(method) }, { method: mortal }];
      const journal = openJournal(join(folder, `killed ${method.name}`), {}, { warn: () => {} });
      await expect(applied(subject, own, journal)).rejects.toThrow('killed');
      killed = true;
      const { model } = await applied(subject, own, journal);
      expect(made).toBe(rewrite.repeats ? 2 : 1);
      const uninterrupted = await applied(subject, own);
      expect(storedIn(model)).toEqual(storedIn(uninterrupted.model));
      expect([...model.matrices.keys()]).toEqual([...uninterrupted.model.matrices.keys()]);
      expect(bytes(model)).toBe(bytes(uninterrupted.model));
      expect(model.config).toEqual(uninterrupted.model.config);
    },
  );

  it.each(Object.keys(formats))(
    'is written as %s and opens again, or is refused with the reason',
    async (format) => {
      const out = join(folder, `${method.name}-${format}`);
      const target = formats[format as keyof typeof formats];
      // As the command line would have it for this format; it knows the project's own methods alone.
      const own = method.shape === 'linear' ? {} : fewSteps(method);
      const fits = stepsOf(family, method, own).map((step) => {
        const { method: one, ...options } = step as { readonly method: Method | string };
        const name = typeof one === 'string' ? one : one.name;
        return known.has(name) ? { ...fitted({ method: name }, target), ...options } : step;
      });
      const run = () =>
        compress({ recipe: recipeOf(subject, fits, format), out, ...session, speed: false, answers: false });
      const report = await run().catch((error: unknown) => {
        expect(error).toBeInstanceOf(LapidaryError);
        const { problem, exitCode } = error as LapidaryError;
        // Refused before the work, not found wrong behind it.
        expect(exitCode, String(error)).not.toBe(4);
        expect(problem.what, String(error)).toBeTruthy();
        expect(problem.fix, String(error)).toBeTruthy();
        return undefined;
      });
      if (!report) return;
      for (const check of report.checks) expect(check.worst).toBeLessThanOrEqual(check.tolerance);
      const opened = await openModel(out);
      expect(opened.tokenizer.encode('a time').length).toBeGreaterThan(0);
      const layer = report.layers[0];
      if (opened.model && layer)
        expect(layer.bytesAfter).toBeLessThanOrEqual(encodedBytes(opened.model.matrices.get(layer.name)!));
    },
  );
});
