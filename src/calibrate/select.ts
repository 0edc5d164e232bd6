/** Finds the matrices that a recipe's target names: by place, part, position, sensitivity, or name. */

import { closest } from 'fastest-levenshtein';
import picomatch from 'picomatch';
import { ExitCode, LapidaryError } from '../base/errors.ts';
import type { Model } from '../models/model.ts';
import type { Target } from './targets.ts';
import { targetsOf } from './targets.ts';

/** For help and errors. */
export const targetHelp =
  'blocks, embeddings, head, attention, feed-forward, first:N, last:N, layers:A-B, sensitive:P%, or a name with * and ?';

/** Matrices of blocks, the most sensitive first: see sensitivity.ts. */
export type Ranking = readonly string[];

type Selector = (target: Target) => boolean;

/**
 * @param ranking needed where an expression asks for sensitivity; without it, such an expression means all blocks
 * @throws LapidaryError (usage) on an expression that means nothing, or no matrix of this model
 */
export function selector(expression: string, model: Model, ranking?: Ranking): Selector {
  const select =
    bySensitivity(expression, model, ranking) ?? byPosition(expression, model) ?? byPart(expression, model);
  // What chooses experts is compressed where it is named.
  const found: Selector = select ? (target) => !target.router && select(target) : byName(expression, model);
  if (!targetsOf(model).some(found)) throw meansNothing(expression, model);
  return found;
}

export const asksForSensitivity = (expression: string): boolean => expression.startsWith('sensitive:');

const inBlock: Selector = ({ place }) => place === 'block';

function bySensitivity(expression: string, model: Model, ranking: Ranking | undefined): Selector | undefined {
  if (!asksForSensitivity(expression)) return undefined;
  const share = /^sensitive:(\d+(?:\.\d+)?)%$/.exec(expression)?.[1];
  if (share === undefined || Number(share) > 100)
    throw wrong(expression, 'a share of the weights in blocks, like sensitive:10%');
  if (!ranking) return inBlock;
  const chosen = new Set(mostSensitive(ranking, model, Number(share) / 100));
  return ({ name }) => chosen.has(name);
}

/** The first of the ranking that have no more than the share of its weights; at least one. */
function mostSensitive(ranking: Ranking, { matrices }: Model, share: number): readonly string[] {
  const sizes = ranking.map((name) => matrices.get(name)!.shape.reduce((a, b) => a * b));
  let left = share * sizes.reduce((a, b) => a + b, 0);
  return ranking.filter((_, index) => {
    const fits = index === 0 || sizes[index] <= left;
    if (fits) left -= sizes[index];
    return fits;
  });
}

function byPosition(expression: string, { config }: Model): Selector | undefined {
  const count = config.layers.length;
  const ends = /^(first|last)(?::(\d+))?$/.exec(expression);
  if (ends) {
    const many = Number(ends[2] ?? 1);
    const [from, to] = ends[1] === 'first' ? [0, many - 1] : [count - many, count - 1];
    return ({ layer }) => layer !== undefined && layer >= from && layer <= to;
  }
  if (!expression.startsWith('layers:')) return undefined;
  const range = /^layers:(\d+)(?:-(\d+))?$/.exec(expression);
  if (!range) throw wrong(expression, 'layers counted from 0, like layers:3 or layers:0-7');
  const [from, to] = [Number(range[1]), Number(range[2] ?? range[1])];
  return ({ layer }) => layer !== undefined && layer >= from && layer <= to;
}

/** Learned positions are few and looked up once: nothing compresses them unless they are named. */
function byPart(expression: string, model: Model): Selector | undefined {
  if (expression === 'blocks') return inBlock;
  if (expression === 'embeddings')
    return ({ place }) => place === 'embedding' || place === 'head' || place === 'exit';
  if (expression === 'head') {
    const head = model.architecture.around(model.config).norm.readers.map(({ matrix }) => matrix);
    return ({ name, place }) => place === 'exit' || head.includes(name);
  }
  if (expression !== 'attention' && expression !== 'feed-forward') return undefined;
  const names = new Set(
    [...model.config.layers.keys()].flatMap((layer) => {
      const { attention, feedForward } = model.architecture.structure(model.config, layer);
      return expression === 'attention' ? attention : feedForward;
    }),
  );
  return ({ name }) => names.has(name);
}

function byName(expression: string, model: Model): Selector {
  // A name that leaves out what comes before is looked for at the end of all.
  const matches = picomatch(expression.startsWith('*') ? expression : [expression, `*.${expression}`]);
  if (!/[*?[{]/.test(expression) && !targetsOf(model).some(({ name }) => matches(name)))
    throw meansNothing(expression, model);
  return ({ name }) => matches(name);
}

function wrong(expression: string, expected: string): LapidaryError {
  return new LapidaryError(
    { what: `the target "${expression}" does not fit`, where: 'targets', expected },
    ExitCode.usage,
  );
}

function meansNothing(expression: string, model: Model): LapidaryError {
  const names = [...new Set(targetsOf(model).map(({ name }) => name.split('.').at(-1)!))];
  return new LapidaryError(
    {
      what: `no matrix of this model is meant by the target "${expression}"`,
      where: 'targets',
      expected: targetHelp,
      fix: `its matrices end in ${names.join(', ')}; did you mean "${closest(expression, [...names, 'blocks', 'embeddings', 'head', 'attention', 'feed-forward'])}"?`,
    },
    ExitCode.usage,
  );
}
