import { describe, expect, it } from 'vitest';
import type { Golden } from '../../test/engines/models.ts';
import { openGolden } from '../../test/engines/models.ts';
import { walk } from '../calibrate/walk.ts';
import { bytes, parameters } from '../models/size.ts';
import { parseRecipe } from '../recipe/recipe.ts';
import { assignment } from '../run/assignment.ts';
import type { ReportParts } from './data.ts';
import { parseReport, reportData } from './data.ts';
import type { CompressReport } from './report.ts';

const recipe = parseRecipe({
  steps: [
    { method: 'rtn', bits: 4, group: 16 },
    { method: 'rtn', targets: ['embeddings'], bits: 8, group: 16 },
  ],
});

/** A run of a tiny model, without a text. */
async function run(golden: Golden, changes: Partial<ReportParts> = {}) {
  const original = await openGolden(golden);
  const walked = await walk(original, [], { assign: assignment(recipe, original) });
  const cost = { bytes: 1, parameters: 1, bitsPerWeight: 1, multiplyAdds: 1 };
  const report = {
    model: golden,
    modelType: original.config.modelType,
    out: '/some/where/tiny-rtn-4bit',
    recipe,
    original: cost,
    compressed: cost,
    layers: walked.layers,
    notes: ['a note'],
    seconds: { load: 1.5 },
  } as unknown as CompressReport;
  const data = reportData(report, {
    original,
    compressed: walked.model,
    target: 'ONNX',
    summary: 'rtn',
    files: [],
    decode: (ids) => ids.join(' '),
    reproduction: [],
    machine: 'mine',
    ...changes,
  });
  return { original, compressed: walked.model, data };
}

describe('a report', () => {
  it('lists every tensor once, with all bytes before and after', async () => {
    const { original, compressed, data } = await run('llama');
    const sum = (when: 'before' | 'after') =>
      data.tensors.reduce((all, tensor) => all + tensor[when]!.bytes, 0);
    expect(sum('before')).toBe(bytes(original));
    expect(sum('after')).toBe(bytes(compressed));
    expect(new Set(data.tensors.map(({ name }) => name)).size).toBe(data.tensors.length);
    const weights = data.tensors.reduce((all, { shape }) => all + shape.reduce((a, b) => a * b, 1), 0);
    expect(weights).toBe(parameters(original));
    expect(data.name).toBe('tiny-rtn-4bit');
  });

  it('says what went, what came and what the model is built of since', async () => {
    const { original, compressed: all } = await run('llama');
    const last = original.config.layers.length - 1;
    const inLast = (name: string) => name.startsWith(original.architecture.layerName(last));
    const without = <T>(map: ReadonlyMap<string, T>) => new Map([...map].filter(([name]) => !inLast(name)));
    const compressed = {
      ...all,
      config: { ...all.config, layers: all.config.layers.slice(0, last) },
      matrices: without(all.matrices),
      vectors: without(all.vectors),
    };
    const { data } = await run('llama', { compressed });
    const gone = data.tensors.filter(({ layer }) => layer === last);
    expect(gone.length).toBeGreaterThan(7);
    expect(gone.every(({ before, after }) => before !== undefined && after === undefined)).toBe(true);
    const stored = data.tensors.reduce((sum, { after }) => sum + (after?.bytes ?? 0), 0);
    expect(stored).toBe(bytes(compressed));
    expect(data.structure).toMatchObject({ before: { layers: last + 1 }, after: { layers: last } });
    expect(data.structure!.after.heads).toHaveLength(last);
    // The other way round they are new.
    const grown = await run('llama', { original: compressed, compressed: all });
    const came = grown.data.tensors.filter(({ layer }) => layer === last);
    expect(came.map(({ name }) => name).sort()).toEqual(gone.map(({ name }) => name).sort());
    expect(came.every(({ before, after }) => before === undefined && after !== undefined)).toBe(true);
    expect(parseReport(JSON.stringify(grown.data), 'report.json')).toEqual(grown.data);
    expect((await run('llama')).data).not.toHaveProperty('structure');
  });

  it('names kinds as short as they are clear', async () => {
    const kinds = async (golden: Golden) => new Set((await run(golden)).data.tensors.map(({ kind }) => kind));
    expect(await kinds('llama')).toEqual(
      new Set([
        'q_proj',
        'k_proj',
        'v_proj',
        'o_proj',
        'gate_proj',
        'up_proj',
        'down_proj',
        'embedding',
        'head',
        'norms and biases',
      ]),
    );
    expect(await kinds('gpt2')).toEqual(
      new Set(['c_attn', 'attn.c_proj', 'c_fc', 'mlp.c_proj', 'embedding', 'positions', 'norms and biases']),
    );
  });

  it('says of a compressed matrix how and with what error, and of a vector neither', async () => {
    const { tensors } = (await run('llama')).data;
    const find = (name: string) => tensors.find((tensor) => tensor.name === name)!;
    expect(find('model.layers.1.mlp.up_proj')).toMatchObject({ layer: 1, method: 'rtn', errorOf: 'weights' });
    expect(find('model.layers.1.mlp.up_proj').error).toBeGreaterThan(0);
    expect(find('model.layers.1.input_layernorm.weight')).toMatchObject({
      layer: 1,
      kind: 'norms and biases',
    });
    expect(find('model.norm.weight')).not.toHaveProperty('method');
  });

  it('is read back from JSON as it is', async () => {
    const { data } = await run('llama');
    expect(parseReport(JSON.stringify(data), 'report.json')).toEqual(data);
    expect(data.recipe).toMatchObject({
      steps: [
        { method: 'rtn', bits: 4 },
        { method: 'rtn', bits: 8 },
      ],
    });
  });

  it('has the texts of tokens as they stand behind their context', async () => {
    const means = { tokens: 1, nats: 1, originalNats: 1, kl: 1, same: 0 };
    const answer = { probability: 0.5, target: 0.1 };
    const details = {
      sequences: [means],
      positions: [{ from: 1, to: 2, ...means }],
      divergences: [{ from: 0, to: 1e-6, tokens: 1 }],
      changed: [
        {
          sequence: 0,
          position: 1,
          kl: 1,
          context: [7],
          target: 8,
          original: { ...answer, top: 8 },
          compressed: { ...answer, top: 9 },
        },
      ],
    };
    // As sentencepiece does: the first word loses its space.
    const words: Record<number, string> = { 7: ' one', 8: ' two', 9: ' three' };
    const decode = (ids: readonly number[]) =>
      ids
        .map((id) => words[id])
        .join('')
        .trimStart();
    const { data } = await run('llama', { details, decode, evaluationData: 'text.txt' });
    expect(data.evaluation).toMatchObject({
      data: 'text.txt',
      changed: [{ context: 'one', target: ' two', original: { top: ' two' }, compressed: { top: ' three' } }],
    });
  });
});
