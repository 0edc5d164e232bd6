/**
 * Coordinate descent, part by part: with all others as they are, the error of part J under the Gram matrix H is
 *   (q - x) H_JJ (q - x)^T + constant,   x = q_now - g H_JJ^-1,   g = (Q - W) H_:J,
 * so its scale, minimum and codes are chosen again for x under H_JJ, and taken where that is better.
 */

import type { Area, Kernels } from '../kernels/kernels.ts';
import type { Work } from './parts.ts';
import { scratchBytes } from './parts.ts';

/**
 * Goes over all parts once, in the order of the lines. The error never rises.
 * @param gram damped, [columns, columns]
 * @param size lines of a panel, between two updates of g; whole parts
 */
export async function descend(work: Work, gram: Float32Array, size: number): Promise<void> {
  const { kernels, tiles, order, part, which, scales, minima, codes, form } = work;
  const { columns, stride } = tiles;
  const panel = reservePanel(work, Math.min(size, columns));
  for (let start = 0; start < columns; start += size) {
    const lines = order.subarray(start, start + size);
    await panel.load(gram, lines, start);
    const { q, g, own, inverse } = panel;
    // The whole of H had a factor, so each block has one, but for rounding; the parts then stay as they are.
    if (!factorParts(kernels, { part, count: lines.length }, own, inverse)) return;
    const sizes = [lines.length, stride, own.at, inverse.at, part];
    const target = [which.at + (4 * start) / part, scales.at, minima.at, codes.at + start * stride];
    kernels.run('descendParts', stride / 16, scratchBytes(part), q.at, g.at, ...sizes, ...target, ...form);
    panel.save(lines, start);
  }
}

/** Room for the lines that are gone over together, at most so many. */
function reservePanel({ kernels, engine, tiles, order, part, state }: Work, most: number) {
  const { columns, stride, weights } = tiles;
  const natural = kernels.floats(weights);
  const [q, g] = [kernels.reserve(4 * most * stride), kernels.reserve(4 * most * stride)];
  const [own, inverse] = [kernels.reserve(4 * most * most), kernels.reserve(4 * most * part)];
  const across = engine.reserve(columns * most);
  const [zeros, product] = [engine.reserve(most * stride).fill(0), engine.reserve(most * stride)];
  return {
    /** [count, stride] each: the values of the lines now, and g. */
    q,
    g,
    /** Their own [count, count] of H. */
    own,
    inverse,
    async load(gram: Float32Array, lines: Int32Array, start: number): Promise<void> {
      const count = lines.length;
      // The state is W - Q: its product with -H is g.
      order.forEach((column, line) => {
        const from = column * columns;
        for (let i = 0; i < count; i++) across[line * count + i] = -gram[from + lines[i]];
      });
      const v = { rows: columns, values: across.subarray(0, columns * count) };
      const [none, now] = [zeros, product].map((values) => ({
        rows: count,
        values: values.subarray(0, count * stride),
      }));
      await engine.feedback(none, v, { rows: columns, values: state }, now);
      kernels.floats(g).set(now.values);
      const [block, values] = [kernels.floats(own), kernels.floats(q)];
      lines.forEach((column, i) => {
        for (let k = 0; k < count; k++) block[i * count + k] = gram[column * columns + lines[k]];
        for (let row = 0; row < stride; row++) {
          values[i * stride + row] = natural[column * stride + row] - state[(start + i) * stride + row];
        }
      });
    },
    save(lines: Int32Array, start: number): void {
      const values = kernels.floats(q);
      lines.forEach((column, i) => {
        for (let row = 0; row < stride; row++) {
          state[(start + i) * stride + row] = natural[column * stride + row] - values[i * stride + row];
        }
      });
    },
  };
}

/** U^T [part, part] of each part's own block of H. @returns whether all are positive definite */
function factorParts(
  kernels: Kernels,
  { part, count }: { readonly part: number; readonly count: number },
  own: Area,
  inverse: Area,
): boolean {
  const block = kernels.floats(own);
  const scratch = kernels.reserve(4 * part * part);
  const s = kernels.floats(scratch);
  for (let from = 0; from < count; from += part) {
    for (let i = 0; i < part; i++) {
      const at = (from + i) * count + from;
      s.set(block.subarray(at, at + part), i * part);
    }
    if (kernels.call('factor', scratch.at, inverse.at + 4 * from * part, part, part) >= 0) return false;
  }
  return true;
}
