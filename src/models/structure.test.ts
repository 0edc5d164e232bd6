import { describe, expect, it } from 'vitest';
import type { Value } from '../graph/graph.ts';
import { Graph } from '../graph/graph.ts';
import { openCheckpoint } from '../io/checkpoint.ts';
import { plainScope } from './build.ts';
import { loadModel } from './index.ts';
import type { Model } from './model.ts';
import { linearLayers, tables } from './size.ts';

const names = [
  'llama',
  'llama-bias',
  'mistral',
  'qwen2',
  'qwen3',
  'gpt2',
  'gpt_neo',
  'gpt_neox',
  'gpt_neox-sequential',
  'opt',
  'phi',
  'falcon',
  'falcon-groups',
  'bloom',
  'stablelm-parallel',
];
const open = async (name: string) =>
  loadModel(await openCheckpoint(new URL(`../../test/models/${name}`, import.meta.url).pathname));

/** The matrices of a layer by what they are fed, as its graph is built. */
function fedTogether(model: Model, layer: number): string[][] {
  const graph = new Graph();
  const scope = plainScope(graph, model.config, model, { time: 'time', longest: 8 });
  model.architecture.block(scope, graph.input('x', 'float32', ['batch', 'time', model.config.hidden]), layer);
  const groups = new Map<Value, string[]>();
  for (const [name, { input }] of scope.linears) groups.set(input, [...(groups.get(input) ?? []), name]);
  return [...groups.values()];
}

describe.each(names)('what the structure of %s says', (name) => {
  it('of norms: all that reads them, and nothing else', async () => {
    const model = await open(name);
    const { norms } = model.architecture.structure(model.config, 1);
    const groups = fedTogether(model, 1);
    for (const { readers } of norms) expect(groups).toContainEqual(readers.map(({ matrix }) => matrix));
  });

  it('of matrices: each reads a norm or writes to the residual stream', async () => {
    const model = await open(name);
    const { norms, writers } = model.architecture.structure(model.config, 1);
    const readers = norms.flatMap((norm) => norm.readers);
    const all = [...readers, ...writers].map(({ matrix }) => matrix);
    const inLayer = linearLayers(model).filter(({ layer }) => layer === 1);
    expect(all.toSorted()).toEqual(inLayer.map((each) => each.name).toSorted());
    for (const { matrix } of writers) expect(model.matrices.get(matrix)!.shape[0]).toBe(model.config.hidden);
  });

  it('of vectors: every norm and every bias of the layer, once', async () => {
    const model = await open(name);
    const { norms, writers } = model.architecture.structure(model.config, 1);
    const biases = [...norms, ...norms.flatMap(({ readers }) => readers), ...writers].map(({ bias }) => bias);
    const named = [...norms.map(({ weight }) => weight), ...biases.filter((bias) => bias !== undefined)];
    const prefix = `${model.architecture.layerName(1)}.`;
    // Norms of single heads are no norms of the residual stream.
    const there = [...model.vectors.keys()].filter((key) => key.startsWith(prefix) && !/[qk]_norm/.test(key));
    expect(named.toSorted()).toEqual(there.toSorted());
  });

  it('of what stands around the layers: tables, last norm and head', async () => {
    const model = await open(name);
    const { tables: outer, norm, centered } = model.architecture.around(model.config);
    expect(outer.toSorted()).toEqual([...tables(model).keys()].toSorted());
    expect(model.vectors.has(norm.weight)).toBe(true);
    expect(norm.bias !== undefined).toBe(centered);
    const head = linearLayers(model).filter(({ layer }) => layer === undefined);
    expect(norm.readers.map(({ matrix }) => matrix)).toEqual(head.map((each) => each.name));
  });
});
