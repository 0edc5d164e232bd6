/**
 * Adam (Kingma and Ba 2015) on the relative change of each number, v = v0 (1 + t): one rate suits scales and norms of any
 * size.
 */

export interface Parameter {
  /** Changed in place. */
  readonly values: Float32Array;
}

const [beta1, beta2, epsilon] = [0.9, 0.95, 1e-12];

export interface RelativeAdam {
  /** @param gradients by values, not by their relative change; those that are missing are 0 */
  step(gradients: ReadonlyMap<string, Float32Array>, rate: number): void;
}

export function relativeAdam(parameters: ReadonlyMap<string, Parameter>): RelativeAdam {
  const states = new Map(
    [...parameters].map(([name, { values }]) => {
      const zeros = () => new Float32Array(values.length);
      return [name, { values, start: values.slice(), change: zeros(), first: zeros(), second: zeros() }];
    }),
  );
  let steps = 0;
  return {
    step(gradients, rate) {
      steps++;
      const [correct1, correct2] = [1 - beta1 ** steps, 1 - beta2 ** steps];
      for (const [name, { values, start, change, first, second }] of states) {
        const gradient = gradients.get(name);
        if (!gradient) continue;
        for (let i = 0; i < values.length; i++) {
          const g = gradient[i] * start[i];
          first[i] += (1 - beta1) * (g - first[i]);
          second[i] += (1 - beta2) * (g * g - second[i]);
          change[i] -= (rate * first[i]) / correct1 / (Math.sqrt(second[i] / correct2) + epsilon);
          values[i] = start[i] * (1 + change[i]);
        }
      }
    },
  };
}
