/** kernels/rounding.ts again, one group at a time in plain TypeScript; see twins.ts. */

export interface RoundedGroup {
  readonly weights: Float32Array;
  readonly offsets: Float32Array;
  readonly scale: number;
  readonly zero: number;
  /** The ends of its range at the start, as sizes, and their factors. */
  readonly low: number;
  readonly high: number;
  readonly beta: number;
  readonly alpha: number;
}

export interface RoundingRates {
  readonly top: number;
  /** Which ends of ranges move: none, alpha alone, or both. */
  readonly moving: 0 | 1 | 2;
  readonly offsets: number;
  readonly ranges: number;
  /** What is stored of a scale. */
  readonly stored: (scale: number) => number;
}

/** Its weights. */
export function spread({ weights, offsets, scale, zero }: RoundedGroup, top: number): Float32Array {
  return weights.map((weight, i) => {
    const free = Math.floor(weight / scale + offsets[i]);
    return Math.min(Math.max(free, -zero), top - zero) * scale;
  });
}

/** One step against the signs of gradients, of its weights. */
export function stepRounding(group: RoundedGroup, slopes: Float32Array, rates: RoundingRates): RoundedGroup {
  const { weights, scale, zero } = group;
  let toScale = 0;
  let beyond = 0;
  const offsets = group.offsets.map((offset, i) => {
    const exact = weights[i] / scale;
    const free = Math.floor(exact + offset);
    const code = Math.min(Math.max(free, -zero), rates.top - zero);
    toScale += slopes[i] * (free === code ? code - exact : code);
    if (free !== code) beyond += slopes[i];
    return free === code ? offset - rates.offsets * Math.sign(slopes[i]) : offset;
  });
  return { ...group, offsets, ...ranged(group, toScale, beyond, rates) };
}

function ranged(
  { low, high, scale, zero, ...factors }: RoundedGroup,
  toScale: number,
  beyond: number,
  { top, moving, ranges, stored }: RoundingRates,
): Partial<RoundedGroup> {
  if (moving === 0) return {};
  if (moving === 1) {
    const alpha = factors.alpha - ranges * Math.sign(toScale);
    return { alpha, scale: stored(Math.max((alpha * (low + high)) / top, 2 ** -24)) };
  }
  // z = beta low / s and s = (alpha high + beta low) / top.
  const toZero = -scale * beyond;
  const along = toZero * -((factors.beta * low) / scale ** 2);
  const toLow = (toScale + along) / top + toZero / scale;
  const toHigh = (toScale + along) / top;
  const beta = factors.beta - ranges * Math.sign(toLow * low);
  const alpha = factors.alpha - ranges * Math.sign(toHigh * high);
  const next = stored(Math.max((beta * low + alpha * high) / top, 2 ** -24));
  return {
    beta,
    alpha,
    scale: next,
    zero: Math.min(Math.max(Math.floor((beta * low) / next + 0.5), 0), top),
  };
}
