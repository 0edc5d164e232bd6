/**
 * Where a loss is: by sequence, by position, in the tail, and at the tokens whose prediction changed most. Means say
 * how much was lost; reports show these to say where.
 */

import type { Comparison } from './reduce.ts';

/** Means over some tokens. */
export interface MeanLoss {
  readonly tokens: number;
  /** Negative log-likelihood of a token under the compressed model. */
  readonly nats: number;
  /** Under the original. */
  readonly originalNats: number;
  /** KL(original || compressed), nats. */
  readonly kl: number;
  /** Share of tokens for which both find the same one most likely. */
  readonly same: number;
}

export interface EvaluationDetails {
  /** One a sequence, in the order evaluated. */
  readonly sequences: readonly MeanLoss[];
  /** Buckets of positions, [from, to), equally wide, 64 at most; the first token that is predicted has position 1. */
  readonly positions: readonly ({ readonly from: number; readonly to: number } & MeanLoss)[];
  /** How many tokens have a KL divergence in [from, to), nats: from 0, then two edges a decade, up to the largest. */
  readonly divergences: readonly { readonly from: number; readonly to: number; readonly tokens: number }[];
  /**
   * Tokens that diverge at all, 50 at most: first those that another became most likely for, then those that moved,
   * for which a fifth of the places is kept. Both by KL, worst first.
   */
  readonly changed: readonly ChangedToken[];
}

export interface ChangedToken {
  readonly sequence: number;
  /** Of the token in the text, within its sequence. */
  readonly position: number;
  /** KL(original || compressed), nats. */
  readonly kl: number;
  /** Ids before it, 24 at most, and the id that stood in the text. */
  readonly context: readonly number[];
  readonly target: number;
  readonly original: Answer;
  readonly compressed: Answer;
}

/** What a model said. */
export interface Answer {
  /** The id that it found most likely, and how likely. */
  readonly top: number;
  readonly probability: number;
  /** How likely it found the text's own token. */
  readonly target: number;
}

const mostBuckets = 64;
const mostChanged = 50;
const keptForMoved = 10;
const contextLength = 24;

/**
 * @param sequences what was evaluated
 * @param compared of every token but each sequence's first, sequence after sequence
 */
export function evaluationDetails(sequences: readonly Int32Array[], compared: Comparison): EvaluationDetails {
  const places = sequences.flatMap((ids, sequence) =>
    Array.from({ length: Math.max(0, ids.length - 1) }, (_, index) => ({ sequence, position: index + 1 })),
  );
  const last = sequences.reduce((most, { length }) => Math.max(most, length - 1), 0);
  const width = Math.max(1, Math.ceil(last / mostBuckets));
  const bucketOf = (position: number) => Math.floor((position - 1) / width);
  const positions = meansBy(
    places.map(({ position }) => bucketOf(position)),
    Math.ceil(last / width),
    compared,
  );
  return {
    sequences: meansBy(
      places.map(({ sequence }) => sequence),
      sequences.length,
      compared,
    ),
    positions: positions.map((means, bucket) => ({
      from: 1 + bucket * width,
      to: Math.min(1 + (bucket + 1) * width, last + 1),
      ...means,
    })),
    divergences: histogram(compared.kl),
    changed: worst(compared).map((token) => {
      const { sequence, position } = places[token];
      const ids = sequences[sequence];
      return {
        sequence,
        position,
        kl: compared.kl[token],
        context: [...ids.subarray(Math.max(0, position - contextLength), position)],
        target: ids[position],
        original: {
          top: compared.originalTop[token],
          probability: Math.exp(-compared.originalTopNats[token]),
          target: Math.exp(-compared.originalNats[token]),
        },
        compressed: {
          top: compared.top[token],
          probability: Math.exp(-compared.topNats[token]),
          target: Math.exp(-compared.nats[token]),
        },
      };
    }),
  };
}

/** Means over the tokens of each group; zeros where a group has none. */
function meansBy(groups: readonly number[], count: number, compared: Comparison): MeanLoss[] {
  const sums = Array.from({ length: count }, () => ({ tokens: 0, nats: 0, originalNats: 0, kl: 0, same: 0 }));
  groups.forEach((group, token) => {
    const sum = sums[group];
    sum.tokens++;
    sum.nats += compared.nats[token];
    sum.originalNats += compared.originalNats[token];
    sum.kl += compared.kl[token];
    if (compared.top[token] === compared.originalTop[token]) sum.same++;
  });
  return sums.map(({ tokens, nats, originalNats, kl, same }) => {
    const share = 1 / Math.max(1, tokens);
    return {
      tokens,
      nats: nats * share,
      originalNats: originalNats * share,
      kl: kl * share,
      same: same * share,
    };
  });
}

function histogram(values: Float32Array): EvaluationDetails['divergences'] {
  const largest = values.reduce((most, value) => Math.max(most, value), 0);
  const edges = [0];
  for (let exponent = -6; edges.at(-1)! <= largest; exponent++) {
    // Written as people write them: 0.001, not 0.0009999999999999998.
    edges.push(Number(`1e${exponent}`), Number(`3e${exponent}`));
  }
  const ends = edges.slice(1, 1 + Math.max(1, edges.slice(1).findIndex((edge) => edge > largest) + 1));
  const counts = ends.map(() => 0);
  for (const value of values) counts[ends.findIndex((end) => value < end)]++;
  return ends.map((to, index) => ({ from: edges[index], to, tokens: counts[index] }));
}

/** Indices of the tokens that are shown. */
function worst({ kl, top, originalTop }: Comparison): number[] {
  const above = [...kl.keys()].filter((index) => kl[index] > 0).sort((a, b) => kl[b] - kl[a]);
  const became = above.filter((index) => top[index] !== originalTop[index]);
  const moved = above.filter((index) => top[index] === originalTop[index]);
  const first = became.slice(0, mostChanged - Math.min(keptForMoved, moved.length));
  return [...first, ...moved.slice(0, mostChanged - first.length)];
}
