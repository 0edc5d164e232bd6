/** kernels/parts.ts again, one row and one number at a time: what it means, and what its test holds it against. */

import { halfCode, halfValue } from '../base/half.ts';
import { roundEven } from '../base/round.ts';

const { fround } = Math;

/** What a type can hold: float16 without units, else numbers from `least` (minima: 0) to `most` times them. */
export interface PartForm {
  readonly units?: { readonly scale: number; readonly minimum: number } | undefined;
  readonly least: number;
  readonly most: number;
  readonly zero: number;
  readonly top: number;
  /** Whether there are minima, or zero points: whole numbers of scales, from 0 to `top`. */
  readonly minima: boolean | 'zero points';
}

/** A part of a row: scale, minimum, codes, and the errors and the loss of these. */
export interface Choice {
  readonly scale: number;
  readonly minimum: number;
  readonly codes: readonly number[];
  readonly errors: readonly number[];
  readonly loss: number;
}

type Pair = readonly [scale: number, minimum: number];

const clamp = (value: number, low: number, high: number) => Math.min(Math.max(value, low), high);
/** In place of a scale of 0. */
const usable = (scale: number) => (scale === 0 ? fround(1e-30) : scale);

/** Of a code, as the kernels compute it. */
export function valueOf(code: number, { scale, minimum }: Pick<Choice, 'scale' | 'minimum'>, zero: number): number {
  return fround(fround(usable(scale) * (code - zero)) - minimum);
}

function half(value: number): number {
  return clamp(halfValue(halfCode(clamp(value, -65504, 65504))), -65504, 65504);
}

function whole(value: number, unit: number, least: number, most: number): number {
  return unit === 0 ? 0 : fround(clamp(roundEven(fround(value / unit)), least, most) * unit);
}

function stored([scale, minimum]: Pair, { units, least, most, minima, top }: PartForm): Pair {
  if (minima === 'zero points') {
    const kept = half(scale);
    return [kept, fround(kept * clamp(roundEven(fround(minimum / usable(kept))), 0, top))];
  }
  if (!units) return [half(scale), minima ? half(minimum) : 0];
  return [whole(scale, units.scale, least, most), minima ? whole(minimum, units.minimum, 0, most) : 0];
}

/** e from y = e U: row i of `u`, U^T, holds u_ki for k <= i. */
function solve(y: readonly number[], u: readonly Float32Array[], settle?: (value: number) => number): number[] {
  const e: number[] = [];
  y.forEach((value, i) => {
    let left = value;
    for (let k = 0; k < i; k++) left = fround(left - fround(u[i][k] * e[k]));
    e.push(fround((settle ? fround(left - settle(left)) : left) / u[i][i]));
  });
  return e;
}

function attempt(x: readonly number[], u: readonly Float32Array[], form: PartForm, best: Choice, pair: Pair): Choice {
  const [scale, minimum] = pair;
  const codes: number[] = [];
  const errors = solve(x, u, (value) => {
    const code = clamp(roundEven(fround(fround(value + minimum) / usable(scale))) + form.zero, 0, form.top);
    codes.push(code);
    return valueOf(code, { scale, minimum }, form.zero);
  });
  const loss = errors.reduce((sum, e) => fround(sum + fround(e * e)), 0);
  return loss < fround(best.loss * fround(1 - 1e-6)) ? { scale, minimum, codes, errors, loss } : best;
}

function leastSquares(u: readonly Float32Array[], form: PartForm, best: Choice): Pair {
  const { scale, minimum, codes, errors } = best;
  const p = solve(codes.map((code) => code - form.zero), u);
  const o = form.minima ? solve(codes.map(() => 1), u) : [];
  const dot = (a: readonly number[], b: readonly number[]) =>
    a.reduce((sum, value, i) => fround(sum + fround(value * b[i])), 0);
  const [pp, ep] = [dot(p, p), dot(errors, p)];
  if (!form.minima) return [pp > 0 ? fround(scale + fround(ep / pp)) : scale, minimum];
  const [po, oo, eo] = [dot(p, o), dot(o, o), dot(errors, o)];
  const product = fround(pp * oo);
  const d = fround(product - fround(po * po));
  if (!(d > fround(product * fround(1e-5)))) return [scale, minimum];
  const ds = fround(fround(fround(oo * ep) - fround(po * eo)) / d);
  const dm = fround(fround(fround(po * ep) - fround(pp * eo)) / d);
  return [fround(scale + ds), fround(minimum + dm)];
}

/**
 * @param x what the part should be
 * @param u U^T, row by row; the error is |(x - w) U^-1|^2
 * @param best where the search begins
 * @param wide whether scales far from the first are tried, too
 */
export function choosePart(
  x: readonly number[],
  u: readonly Float32Array[],
  form: PartForm,
  best: Choice,
  wide: boolean,
): Choice {
  const { units } = form;
  const take = (pair: Pair) => {
    best = attempt(x, u, form, best, pair);
  };
  take([best.scale, best.minimum]);
  const first = best;
  for (let i = 0; wide && i < 7; i++) {
    const share = fround(fround(0.8) + fround(fround(0.05) * i));
    const scale = fround(first.scale * share);
    const middle = fround(fround(scale - first.scale) * (form.top / 2 - form.zero));
    take(stored([scale, fround(first.minimum + middle)], form));
  }
  for (let round = 0; round < (wide ? 2 : 1); round++) {
    take(stored(leastSquares(u, form, best), form));
    for (const sign of [-1, 1]) {
      const by = units ? units.scale : fround(best.scale * fround(0.025));
      const scale = fround(best.scale + sign * by);
      const minimum = fround(best.minimum * fround(scale / usable(best.scale)));
      take(stored([scale, form.minima === 'zero points' ? minimum : best.minimum], form));
    }
    if (form.minima === 'zero points') {
      for (const sign of [-1, 1])
        take(stored([best.scale, fround(best.minimum + fround(best.scale * sign))], form));
    }
    if (!units || !form.minima) continue;
    for (const by of [units.scale, 0]) {
      for (const sign of [-1, 1]) {
        take(stored([fround(best.scale + sign * by), fround(best.minimum + sign * units.minimum)], form));
      }
    }
  }
  return best;
}
