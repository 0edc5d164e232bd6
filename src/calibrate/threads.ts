/**
 * How many threads the walk may use without changing a bit. The engine's matrix product (MLAS) never splits a sum among
 * threads, but it shares out a product with fewer rows than columns by columns, and where a thread gets 64 columns or
 * fewer it adds up a long row in longer blocks; with one row to a thread it takes another kernel. That happens only
 * where there is little calibration text and many threads.
 */

import { defaultThreads } from '../base/threads.ts';
import type { Model } from '../models/model.ts';
import { linearLayers } from '../models/size.ts';
import { piecesOf } from './statistics.ts';

/** Columns are shared out in pieces of so many. */
const piece = 16;
/** With five, the last of them not full, a thread has more than 64 columns. */
const fewestPieces = 5;
/** A row that is this long is one block however it is shared out. */
const shortRow = 128;

/**
 * @param tokens of the smallest run
 * @param threads asked for; without it as base/threads.ts says
 * @returns as many, or the most that give the bits that one thread gives
 */
export function steadyThreads(model: Model, tokens: number, threads?: number): number | undefined {
  const shapes = linearLayers(model)
    .filter(({ layer }) => layer !== undefined)
    .map(({ encoding: { shape } }) => shape);
  const byColumns = shapes
    .filter(([rows, columns]) => rows > tokens && columns > shortRow)
    .map(([rows]) => Math.floor(Math.ceil(rows / piece) / fewestPieces));
  // A Gram matrix, or a piece of it, has as many rows as columns.
  const byRows = [tokens, ...shapes.map(([, columns]) => piecesOf(columns).width)].map((rows) =>
    Math.floor(rows / 2),
  );
  const most = Math.max(1, Math.min(...byColumns, ...byRows));
  return most < (threads ?? defaultThreads()) ? most : threads;
}
