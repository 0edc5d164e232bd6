/**
 * Every kernel against its scalar twin in TypeScript, on one thread and on all; one JSON line a kernel. Sizes are
 * those of a 576 x 1536 layer (out x in), in blocks and groups of 128. Times are the best of many, in milliseconds.
 *
 *   npx tsx bench/kernels/run.ts [--repeats 20]
 */

import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { random } from '../../src/base/random.ts';
import { integerGrid } from '../../src/encodings/grid.ts';
import { pack } from '../../src/encodings/pack.ts';
import type { Area, Kernels } from '../../src/kernels/kernels.ts';
import { withKernels } from '../../src/kernels/kernels.ts';
import { stepLatents } from '../../src/kernels/latents-twin.ts';
import * as twins from '../../src/kernels/twins.ts';

const { values: flags } = parseArgs({ options: { repeats: { type: 'string', default: '20' } } });
const repeats = Number(flags.repeats);
const [rows, columns, size, top] = [576, 1536, 128, 15];
const groups = columns / size;
const { normal, integer } = random(1);
const floats = (count: number) => Float32Array.from({ length: count }, () => 0.05 * normal());

const w = floats(columns * rows);
const scales = floats(groups * rows).map((x) => 0.01 + Math.abs(x));
const zeros = Float32Array.from({ length: groups * rows }, () => integer(16));
const codes = Uint8Array.from({ length: columns * rows }, () => integer(16));
const inverse = floats(size * size);
const s = floats(size * size);
for (let i = 0; i < size; i++) {
  inverse[i * size + i] = 1;
  for (let j = 0; j < i; j++) s[i * size + j] = s[j * size + i];
  s[i * size + i] = 8;
}
const block = { columns: size, stride: rows, pitch: size, top };
const one = new Int32Array(size);

function put(kernels: Kernels, values: Float32Array | Uint8Array | Int32Array): Area {
  const area = kernels.reserve(values.byteLength);
  kernels.bytes(area).set(new Uint8Array(values.buffer));
  return area;
}

function fitTwin(range: 'minmax' | 'mse') {
  const grid = integerGrid({ bits: 4, symmetric: false, range, scales: 'float16' });
  const values = new Float32Array(size);
  for (let g = 0; g < groups; g++) {
    for (let row = 0; row < rows; row++) {
      for (let i = 0; i < size; i++) values[i] = w[(g * size + i) * rows + row];
      grid.fit(values);
    }
  }
}

/** One step of Adam on the latent codes of all groups; the kernel's with what was fed to it copied in. */
const rates = { least: 0, greatest: top, codes: 0.0015, scales: 0.0005, step: 10 };
const latentGroups = Array.from({ length: groups * rows }, (_, at) => ({
  latents: Float32Array.from(codes.subarray(at * size, (at + 1) * size)),
  means: new Float32Array(size),
  squares: new Float32Array(size),
  scale: 0.01,
  zero: 8,
  change: 0,
  mean: 0,
  square: 0,
}));
const latentKernel = (kernels: Kernels) => {
  const [flow, latents] = [put(kernels, w), put(kernels, Float32Array.from(codes))];
  const [means, squares] = [w, w].map(({ length }) => put(kernels, new Float32Array(length)));
  const ofGroups = [1, 1, 2, 4].map((words) => put(kernels, new Float32Array(words * groups * rows)));
  const places = [flow, latents, means, squares].map(({ at }) => at);
  const values = [...places, columns, size, ...ofGroups.map(({ at }) => at), 0, top];
  return () => {
    kernels.floats(flow).set(w);
    kernels.run('stepLatents', rows, 0, ...values, rates.codes, 2, rates.scales, 2);
  };
};

interface Case {
  readonly name: string;
  readonly twin: () => unknown;
  readonly kernel: (kernels: Kernels) => () => unknown;
}

const tiles = rows / 16;
const fitKernel = (search: number) => (kernels: Kernels) => {
  const [from, a, b] = [put(kernels, w), put(kernels, scales), put(kernels, zeros)];
  const values = [from.at, columns, rows, size, a.at, b.at, top, 0, search, 1];
  return () => kernels.run('fit', groups * tiles, 64 * size, ...values);
};

const cases: readonly Case[] = [
  {
    name: 'compensate',
    twin: () => twins.compensate(w, w, block, inverse, one, scales, zeros),
    kernel: (kernels) => {
      const [now, origin, u, g] = [w, w, inverse, one].map((values) => put(kernels, values).at);
      const [a, b, to] = [put(kernels, scales).at, put(kernels, zeros).at, kernels.reserve(size * rows).at];
      const values = [now, origin, size, rows, u, size, g, a, b, to, top];
      return () => kernels.run('compensate', tiles, 64 * size, ...values);
    },
  },
  {
    name: 'round, minmax',
    twin: () => {
      fitTwin('minmax');
      twins.round(twins.transpose(w, rows, columns, rows), { columns, stride: rows, size, top }, scales, zeros);
      pack(codes, columns, 4);
    },
    kernel: (kernels) => {
      const [from, a, b] = [put(kernels, w), put(kernels, scales), put(kernels, zeros)];
      const to = kernels.reserve((rows * columns) / 2);
      const values = [from.at, rows, columns, 0, size, a.at, b.at, rows, top, 0, 0, 1];
      const packed = [to.at, columns / 2, 4, 0, 0];
      return () => kernels.run('round', tiles, 80 * columns + 16, ...values, ...packed);
    },
  },
  { name: 'fit, minmax', twin: () => fitTwin('minmax'), kernel: fitKernel(0) },
  { name: 'fit, mse', twin: () => fitTwin('mse'), kernel: fitKernel(1) },
  {
    name: 'latents',
    twin: () =>
      latentGroups.forEach((group, at) => stepLatents(group, w.subarray(at * size, (at + 1) * size), rates)),
    kernel: latentKernel,
  },
  {
    name: 'transpose',
    twin: () => twins.transpose(w, rows, columns, rows),
    kernel: (kernels) => {
      const [from, to] = [put(kernels, w), kernels.reserve(w.byteLength)];
      return () => kernels.run('transpose', tiles, 0, from.at, rows, columns, to.at, rows, 0);
    },
  },
  {
    name: 'pack',
    twin: () => pack(codes, columns, 4),
    kernel: (kernels) => {
      const [from, to] = [put(kernels, codes), kernels.reserve((rows * columns) / 2)];
      const values = [from.at, 0, columns, rows, rows, to.at, columns / 2, 4, 0, 0];
      return () => kernels.run('pack', tiles, 16, ...values);
    },
  },
  {
    name: 'factor',
    twin: () => twins.factor(s, size),
    kernel: (kernels) => {
      const [from, to] = [put(kernels, s), kernels.reserve(s.byteLength)];
      const view = kernels.floats(from);
      return () => {
        view.set(s);
        return kernels.call('factor', from.at, to.at, size, size);
      };
    },
  },
];

function best(run: () => unknown, count: number): number {
  let least = Number.POSITIVE_INFINITY;
  for (let i = 0; i < count; i++) {
    const start = performance.now();
    run();
    least = Math.min(least, performance.now() - start);
  }
  return least;
}

const show = (value: number): number => Number(value.toPrecision(3));

for (const { name, twin, kernel } of cases) {
  const plain = best(twin, name === 'fit, mse' ? 2 : repeats);
  const alone = await withKernels((kernels) => best(kernel(kernels), repeats), 1);
  const threads = availableParallelism();
  const all = await withKernels((kernels) => best(kernel(kernels), repeats), threads);
  const [twinMs, oneThreadMs, allThreadsMs] = [plain, alone, all].map(show);
  const speedup = show(plain / alone);
  console.log(
    JSON.stringify({
      bench: 'kernel against its twin',
      name,
      twinMs,
      oneThreadMs,
      speedup,
      threads,
      allThreadsMs,
    }),
  );
}
