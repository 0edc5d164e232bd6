/** kernels/latents.ts again, one group at a time in plain TypeScript; see twins.ts. */

export interface LatentGroup {
  /** Latent numbers of the codes, and Adam's two moments of each. */
  readonly latents: Float32Array;
  readonly means: Float32Array;
  readonly squares: Float32Array;
  readonly scale: number;
  readonly zero: number;
  /** Of the scale, relative; and its moments. */
  readonly change: number;
  readonly mean: number;
  readonly square: number;
}

export interface LatentRates {
  readonly least: number;
  readonly greatest: number;
  readonly codes: number;
  readonly scales: number;
  /** Counted from 1. */
  readonly step: number;
}

const [beta1, beta2] = [0.9, 0.95];
const epsilon = 1e-20;

/** Its weights. */
export function spread(
  { latents, scale, zero, change }: LatentGroup,
  { least, greatest }: Pick<LatentRates, 'least' | 'greatest'>,
): Float32Array {
  const codeOf = (u: number) => Math.min(Math.max(Math.floor(u + 0.5), least), greatest);
  return latents.map((u) => (codeOf(u) - zero) * scale * (1 + change));
}

/** One step of Adam, by the gradients of its weights. */
export function stepLatents(group: LatentGroup, gradients: Float32Array, rates: LatentRates): LatentGroup {
  const { least, greatest, step } = rates;
  const now = group.scale * (1 + group.change);
  const moved = (rate: number, mean: number, square: number) =>
    (rate * mean) / (1 - beta1 ** step) / (Math.sqrt(square / (1 - beta2 ** step)) + epsilon);
  let slope = 0;
  const flows = gradients.map((gradient, i) => {
    const free = Math.floor(group.latents[i] + 0.5);
    const code = Math.min(Math.max(free, least), greatest);
    slope += gradient * (code - group.zero) * group.scale;
    return free === code ? gradient * now : 0;
  });
  const means = group.means.map((before, i) => beta1 * before + (1 - beta1) * flows[i]);
  const squares = group.squares.map((before, i) => beta2 * before + (1 - beta2) * flows[i] ** 2);
  const mean = beta1 * group.mean + (1 - beta1) * slope;
  const square = beta2 * group.square + (1 - beta2) * slope ** 2;
  return {
    ...group,
    latents: group.latents.map((u, i) => u - moved(rates.codes, means[i], squares[i])),
    means,
    squares,
    change: group.change - moved(rates.scales, mean, square),
    mean,
    square,
  };
}
