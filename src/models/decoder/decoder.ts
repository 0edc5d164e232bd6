/**
 * The decoder that most open language models are: a stream of hidden states, to which attention and a feed-forward add layer
 * by layer. What an architecture has of its own stands in its traits; here is what all of them are made of.
 */

import type { Value } from '../../graph/graph.ts';
import { add, scalar, softcap } from '../../graph/ops.ts';
import { exitNames, exitStructures } from '../exits.ts';
import type { Architecture, Configuration, Scope } from '../model.ts';
import type { Json } from '../settings.ts';
import type { Decoder } from './block.ts';
import { block, factored, norm } from './block.ts';
import { activationOf, configure, settingsOf } from './configure.ts';
import { structureOf } from './structure.ts';
import type { Biases, DecoderTraits, Positions } from './traits.ts';
import { llamaNames } from './traits.ts';

export type * from './traits.ts';

const noBiases: Biases = { queryKeyValue: false, output: false, feedForward: false };

/** An architecture of this form. */
export function decoder(traits: DecoderTraits): Architecture {
  const names = { ...llamaNames, ...traits.names };
  const decoderOf = ({ json }: { readonly json: Json }): Decoder => ({
    traits,
    names: { ...names, ...traits.norms?.(json) },
    norm: traits.norm ?? { kind: 'rms' },
    biases: traits.biases?.(json) ?? noBiases,
    activation: activationOf(traits, json),
    parallel: traits.parallel?.(json) ?? false,
    residual: traits.factors?.(json).residual ?? 1,
  });
  const headOf = ({ tiedHead }: Configuration) => (tiedHead ? names.table : names.head);
  const layerName = (layer: number) => `${names.layers}.${layer}`;
  return {
    modelType: traits.modelType,
    classes: { causal: `${traits.className}ForCausalLM`, base: `${traits.className}Model` },
    configure: (json, mostLayers) => configure(traits, json, mostLayers),
    omittedPrefix: names.table.slice(0, names.table.indexOf('.') + 1),
    computed: (name) => /rotary_emb\.inv_freq$|\.attention\.(bias|masked_bias)$/.test(name),
    ...(traits.joined && { joined: (name, config) => joinedIn(traits, config, name, names.layers) }),
    ...(traits.aliases && { alias: (name) => aliasIn(traits.aliases!, name) }),
    layerName,
    embed: (scope, ids) => embed(scope, decoderOf(scope.config), ids),
    block: (scope, x, layer) => block(scope, decoderOf(scope.config), x, layer),
    head(scope, x, exit) {
      const { config } = scope;
      const own = decoderOf(config);
      const last = { norm: names.finalNorm, head: headOf(config) };
      const at = exit === undefined ? last : exitNames(exit);
      const biased = exit === undefined && own.biases.head === true;
      const bias = biased ? `${names.head}.bias` : undefined;
      const logits = scope.linear(at.head, norm(scope, own, x, at.norm), config.vocabulary, bias);
      const scaled = factored(logits, traits.factors?.(config.json).logits ?? 1);
      const cap = traits.caps?.(config.json).logits;
      return cap === undefined ? scaled : softcap(scaled, cap);
    },
    structure: (config, layer) => structureOf(decoderOf(config), layerName(layer), config.layers[layer]),
    settings: (layers) => settingsOf(traits, layers),
    around(config) {
      const own = decoderOf(config);
      const head = headOf(config);
      const last = {
        weight: `${names.finalNorm}.weight`,
        ...(own.norm.bias ? { bias: `${names.finalNorm}.bias` } : {}),
        ...(own.norm.offset ? { offset: own.norm.offset } : {}),
        readers: [{ matrix: head, ...(own.biases.head ? { bias: `${names.head}.bias` } : {}) }],
      } as const;
      return {
        tables: [names.table, ...(traits.positions ? [traits.positions.table] : [])],
        ...(names.tableNorm === undefined ? {} : { tableNorm: `${names.tableNorm}.weight` }),
        norm: last,
        exits: exitStructures(config, last),
        centered: own.norm.kind === 'layer',
      };
    },
  };
}

/** Rows of the tables, one for each token. */
function embed(scope: Scope, decoder: Decoder, ids: Value): Value {
  const { names, traits } = decoder;
  const { config } = scope;
  const tokens = factored(scope.embedding(names.table, ids), traits.factors?.(config.json).embedding ?? 1);
  const sum = traits.positions ? add(tokens, positionsIn(scope, traits.positions)) : tokens;
  return names.tableNorm === undefined ? sum : norm(scope, decoder, sum, names.tableNorm);
}

function positionsIn(scope: Scope, { table, offset }: Positions): Value {
  const all = scope.positions();
  const rows = offset === 0 ? all : add(all, scalar(all.graph, offset, 'int64'));
  return scope.embedding(table, rows, scope.config.context + offset);
}

/** "lm_head.weight" by what "lm_head" is called. */
function aliasIn(aliases: Readonly<Record<string, string>>, name: string): string | undefined {
  const [stem] = Object.keys(aliases).filter((each) => name === each || name.startsWith(`${each}.`));
  return stem === undefined ? undefined : aliases[stem] + name.slice(stem.length);
}

/** Of a name that a checkpoint has joined with others. */
function joinedIn(
  { joined }: DecoderTraits,
  { layers }: Configuration,
  name: string,
  prefix: string,
): ReturnType<NonNullable<Architecture['joined']>> {
  if (!name.startsWith(`${prefix}.`)) return undefined;
  const [, layer, part] = /^(\d+)\.(.+)$/.exec(name.slice(prefix.length + 1)) ?? [];
  const plan = layers[Number(layer)];
  const found = part === undefined || plan === undefined ? undefined : joined!(part, plan);
  return found && { ...found, name: `${prefix}.${layer}.${found.name}` };
}
