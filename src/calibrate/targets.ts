/** The matrices of a model that can be compressed, where they stand, and what is done to each. */

import type { Encoding } from '../encodings/encoding.ts';
import type { Compressor } from '../contract/method.ts';
import type { Model } from '../models/model.ts';
import { linearLayers, tables } from '../models/size.ts';

/** Where a matrix stands. A tied head is its embedding; "positions" are learned ones; "exit": a head behind a layer before the last. */
export type Place = 'block' | 'embedding' | 'positions' | 'head' | 'exit';

export interface Target {
  /** Of the matrix: "model.layers.0.self_attn.q_proj". */
  readonly name: string;
  readonly place: Place;
  /** Of a block's matrix. */
  readonly layer?: number | undefined;
  /** Of an exit's: the layer that it stands behind. */
  readonly exit?: number | undefined;
  readonly shape: readonly [rows: number, columns: number];
  /** Whether it chooses experts: it is small, and errors of it send tokens elsewhere. */
  readonly router?: boolean | undefined;
}

export interface Assignment {
  readonly method: Compressor;
  /** Checked by the method's schema. */
  readonly options: unknown;
}

/**
 * Every matrix of a model: tables first, then the layers in the order they run, then the head and exits; one that several
 * names share where the first of them is.
 */
export function targetsOf(model: Model): readonly Target[] {
  const lookedUp = tables(model);
  const routers = routersOf(model);
  const looked = [...model.matrices].flatMap(([name, { shape }]): Target[] => {
    const by = lookedUp.get(name);
    return by === undefined ? [] : [{ name, place: by === 'tokens' ? 'embedding' : 'positions', shape }];
  });
  const products = linearLayers(model).flatMap(({ name, layer, exit, encoding: { shape } }): Target[] => {
    const router = routers.has(name) || undefined;
    if (layer !== undefined) return [{ name, place: 'block', layer, shape, router }];
    if (exit !== undefined) return [{ name, place: 'exit', exit, shape }];
    return lookedUp.has(name) ? [] : [{ name, place: 'head', shape }];
  });
  const seen = new Set<Encoding>();
  return [...looked, ...products].filter(({ name }) => {
    const encoding = model.matrices.get(name)!;
    return seen.size < seen.add(encoding).size;
  });
}

function routersOf({ architecture, config }: Model): ReadonlySet<string> {
  const mixtures = [...config.layers.keys()].map((layer) => architecture.structure(config, layer).mixture);
  return new Set(mixtures.flatMap((mixture) => mixture?.router ?? []));
}

/** Replaces a matrix under all names that share it. */
export function replaceMatrix(matrices: Map<string, Encoding>, name: string, after: Encoding): void {
  const before = matrices.get(name);
  for (const [other, encoding] of matrices) if (encoding === before) matrices.set(other, after);
}

/** What a method that loses nothing makes of a matrix; undefined of other methods. @throws LapidaryError as it does */
export const keptOf = ({ method, options }: Assignment, encoding: Encoding): Encoding | undefined =>
  method.shape === 'linear' ? method.convert?.(encoding, options) : undefined;
