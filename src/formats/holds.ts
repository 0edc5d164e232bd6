/**
 * What a model may have that not every format can say, and which formats can. Exporters ask here, and what is refused is
 * refused here, with the reason. A format that is new does not compile without its answers.
 */

import { isDeepStrictEqual } from 'node:util';
import { LapidaryError } from '../base/errors.ts';
import type { Encoding } from '../encodings/encoding.ts';
import { exitName } from '../models/exits.ts';
import { expertsMisfit, unevenArchitecture } from '../models/gguf-write.ts';
import type { LayerPlan, Model } from '../models/model.ts';
import type { Recipe } from '../recipe/recipe.ts';

type FormatName = Recipe['export']['format'];

/** In words that stand behind "a model with". */
export const traits = {
  exits: 'heads behind layers before the last',
  'uneven heads': 'layers with different numbers of heads',
  'uneven widths': 'feed-forwards of different widths',
  'no attention': 'layers without attention',
  convolutions: 'convolutions in the place of attention',
  'no feed-forward': 'layers without feed-forward',
  'shared matrices': 'matrices that layers share',
  'low rank': 'matrices that are products of two thin ones',
  'joined matrices': 'matrices that its checkpoints hold joined',
  experts: 'mixtures of experts',
  'uneven experts': 'mixtures of different numbers of experts, or beside layers without',
} as const;

export type Trait = keyof typeof traits;

/** The traits that a model has, each with where it is seen first. */
export function traitsOf({ config, matrices, architecture }: Model): ReadonlyMap<Trait, string> {
  const found = new Map<Trait, string>();
  const note = (trait: Trait, where: string) => void (found.has(trait) || found.set(trait, where));
  const { layers, exits = [] } = config;
  const [mixture] = layers.filter(({ experts }) => experts);
  if (exits.length > 0) note('exits', exitName(exits[0]));
  const attending = layers.filter(({ heads }) => heads > 0);
  const feeding = layers.filter(({ intermediate }) => intermediate > 0);
  for (const [layer, plan] of layers.entries()) {
    const name = architecture.layerName(layer);
    const [first] = attending;
    if (plan.convolution) note('convolutions', name);
    else if (plan.heads === 0) note('no attention', name);
    else if (plan.heads !== first.heads || plan.keyValueHeads !== first.keyValueHeads)
      note('uneven heads', name);
    if (plan.intermediate === 0) note('no feed-forward', name);
    else if (plan.intermediate !== feeding.find((other) => isLike(other, plan))!.intermediate)
      note('uneven widths', name);
    if (plan.experts) note('experts', name);
    if (mixture && !isDeepStrictEqual(plan.experts, mixture.experts)) note('uneven experts', name);
  }
  const names = new Map<Encoding, string>();
  for (const [name, encoding] of matrices) {
    if (names.has(encoding)) note('shared matrices', `${names.get(encoding)} and ${name}`);
    names.set(encoding, name);
    if (encoding.factors) note('low rank', name);
    if (architecture.joined?.(name, config)) note('joined matrices', name);
  }
  return found;
}

/** Whether both are mixtures, or both are none. */
const isLike = (a: LayerPlan, b: LayerPlan) => (a.experts === undefined) === (b.experts === undefined);

/** Why a format cannot say it; true where it can. */
type Answer = true | string;
type Answers = Readonly<Record<Trait, Answer>>;

/** One config.json whose keys are for all layers, one tensor a name. */
const folder = (reader: string): Answers => {
  const even = `${reader} reads one number for all layers from config.json`;
  const apart = `experts are not written for ${reader} yet`;
  return {
    exits: `${reader} builds one head, behind the last layer`,
    experts: apart,
    'uneven experts': apart,
    'uneven heads': even,
    'uneven widths': even,
    'no attention': `${reader} builds every layer whole`,
    convolutions: `convolutions are not written for ${reader} yet`,
    'no feed-forward': `${reader} builds every layer whole`,
    'shared matrices': `${reader} reads a tensor of its own for each layer, so that nothing would be saved`,
    'low rank': `${reader} multiplies by one matrix, so that nothing would be saved`,
    'joined matrices': `${reader} reads them joined, and codes are not joined here yet`,
  };
};

const deci =
  'llama.cpp computes such layers in its architecture deci alone, which is Llama without biases and windows';

const held: Readonly<Record<FormatName, (model?: Model) => Answers>> = {
  // Every model that opens is a graph, and every encoding knows its nodes.
  onnx: () => ({
    exits: true,
    'uneven heads': true,
    'uneven widths': true,
    'no attention': true,
    convolutions: true,
    'no feed-forward': true,
    'shared matrices': true,
    'low rank': true,
    'joined matrices': true,
    experts: true,
    'uneven experts': true,
  }),
  gguf(model) {
    const whole = (model && unevenArchitecture(model)) !== undefined || deci;
    const first =
      !model ||
      model.config.layers[0].heads > 0 ||
      'llama.cpp takes the size of heads from the first layer, which has none';
    return {
      ...folder('llama.cpp'),
      experts: (model && expertsMisfit(model)) ?? true,
      'uneven experts': 'llama.cpp takes every layer for a mixture of as many experts',
      // Its tensors have names of their own.
      'joined matrices': true,
      'uneven heads': whole,
      'uneven widths': whole,
      'no attention': whole === true ? first : whole,
      'no feed-forward': whole,
    };
  },
  'compressed-tensors': () => folder('vLLM'),
  gptq: () => folder('vLLM'),
  awq: () => folder('vLLM'),
  mlx: () => folder('mlx-lm'),
};

/** @throws LapidaryError on a model whose structure the format cannot say, with the reason */
export function checkHeld(format: FormatName, model: Model, label: string): void {
  for (const [trait, where] of traitsOf(model))
    check({ format, trait, label, where: `${model.source}, ${where}` }, model);
}

/** The same of one matrix, before there is a model. */
export function checkMatrix(format: FormatName, { factors }: Encoding, label: string): void {
  if (factors) check({ format, trait: 'low rank', label });
}

interface Asked {
  readonly format: FormatName;
  readonly trait: Trait;
  readonly label: string;
  readonly where?: string;
}

function check({ format, trait, label, where }: Asked, model?: Model): void {
  const answer = held[format](model)[trait];
  if (answer === true) return;
  const others = (Object.keys(held) as FormatName[]).filter((name) => held[name](model)[trait] === true);
  throw new LapidaryError({
    what: `${label} holds no model with ${traits[trait]}`,
    where,
    expected: answer,
    fix: `write --format ${others.join(' or ')}, which holds it`,
  });
}
