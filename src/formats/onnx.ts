/** ONNX, in a folder that transformers.js loads. */

import { join } from 'node:path';
import { measureSpeed } from '../evaluate/speed.ts';
import type { AccuracyChoice } from '../export/accuracy.ts';
import { chooseAccuracy, measuresLevels } from '../export/accuracy.ts';
import { ropesOf } from '../models/rope.ts';
import { checkFused, mostTabled } from '../export/attention.ts';
import { cacheBytes, measureCache } from '../export/cache.ts';
import { exportedBytes, exportTransformers, unknownToTransformers } from '../export/transformers.ts';
import { verifyExport } from '../export/verify.ts';
import type { FileType } from '../io/onnx/transformers.ts';
import type { OpenedFile } from '../open.ts';
import { sameWords } from '../run/words.ts';
import { version } from '../version.ts';
import type { Engine, Format, Job } from './format.ts';
import { lossOfRivals } from './format.ts';
import { onnxCard } from './onnx-card.ts';
import { integerProducts, integers } from './recommend.ts';

const engine = `ONNX Runtime ${version('onnxruntime-node')}`;

/** Half of what activations and caches take, and what GPUs are fastest at. */
const webgpu: Engine = { export: { activations: 'float16' } };

const float32 = { activations: 'float32' } as const;
const float16 = { activations: 'float16' } as const;

export const onnx: Format = {
  label: 'ONNX for transformers.js',
  types: {
    fp32: { export: float32 },
    fp16: { export: float16 },
    q8: { options: { bits: 8 }, export: float32 },
    q4: { options: { bits: 4 }, export: float32 },
    q4f16: { options: { bits: 4 }, export: float16 },
    q2: { options: { bits: 2 }, export: float32 },
    q2f16: { options: { bits: 2 }, export: float16 },
  },
  engines: {
    'transformers.js': {},
    node: {},
    onnxruntime: {},
    'onnxruntime-genai': {},
    browser: webgpu,
    webgpu,
    wasm: { bits: 8, export: { products: 'dequantized' }, recommend: integerProducts },
  },
  recommend: (wanted) => integers(wanted, { group: 32 }),
  grids: { offsets: true, wideScales: true },
  fitting: () => ({ form: 'groups' }),
  storedBits: ({ bits }) => (bits === 3 ? 4 : bits),
  floats: ({ activations }) => (activations === 'float16' ? activations : undefined),
  size(outline, { export: { activations, accuracyLevel, products, cache } }) {
    const sizeAt = (level: 0 | 4) => exportedBytes(outline, { activations, accuracyLevel: level, products });
    const isMeasured = accuracyLevel === 'auto' && activations === 'float32' && products === 'matmulnbits';
    const size = sizeAt(accuracyLevel === 'auto' ? 0 : accuracyLevel);
    return { ...size, about: (isMeasured && sizeAt(4).bytes !== size.bytes) || cache !== 'floats' };
  },
  async check({ export: { cache } }, { model }) {
    // Every model that opens is a graph, and every encoding knows its nodes.
    if (cache !== 'floats') checkFused(model.config);
  },
  holds() {
    // So it is of kept ones.
  },
  async write(job) {
    const { recipe, compressed, folder, session, progress, texts, note } = job;
    const { context, layers, modelType } = compressed.config;
    if (unknownToTransformers.has(modelType))
      note(
        `transformers.js does not know models of the type ${modelType} and refuses them: use ONNX Runtime or onnxruntime-genai.`,
      );
    if (context > mostTabled && ropesOf(layers).length > 0)
      note(
        `The graph computes the cosines of its positions at each run: tables for all ${context.toLocaleString('en')} would be larger than many a model.`,
      );
    const accuracy = await accuracyOf(job);
    const { activations, products } = recipe.export;
    const cache = await cacheOf(job);
    const [{ path, dtype, bytes, options, levels }] = exportTransformers(compressed, folder, {
      files: [{ activations, accuracyLevel: accuracy.level, products, cache }],
      type: job.type as FileType | undefined,
    });
    const file = join(folder, path);
    let original: string | undefined;
    progress({ phase: 'verify', done: 0, total: 1 });
    const check = await verifyExport(file, compressed, texts.verification, {
      ...session,
      ...options,
      levels,
    });
    return {
      // Of MatMulNBits there are fast kernels for GPUs, and none in WebAssembly.
      file: { path, type: dtype, bytes, browsers: levels.length > 0 ? 'gpu' : 'all' },
      checks: [{ engine, ...check }],
      opened: exported(job, file),
      accuracy,
      race: {
        engine: `${engine}, ${session.device ?? 'cpu'}`,
        // As an engine would run it: the same graph with its own weights.
        writeOriginal: async () => {
          const folder = join(job.scratch, 'original');
          original ??= exportTransformers(job.original.model, folder, { files: [{ activations }] })[0].path;
          return join(folder, original);
        },
        measure: measureSpeed,
      },
    };
  },
  card: onnxCard,
};

/** The same model as its users run it. */
const exported = ({ original: { name, context }, tokenizer }: Job, file: string): OpenedFile => ({
  name,
  tokenizer,
  context,
  file,
});

/** Scales of keys and values, where these are kept as integers. */
async function cacheOf({ recipe, compressed, texts, session, signal, note }: Job) {
  const { cache, activations } = recipe.export;
  if (cache === 'floats') return undefined;
  const bits = cache === 'int8' ? 8 : 4;
  const text =
    texts.calibration.length > 0 ? texts.calibration.slice(0, cacheSequences) : [texts.verification];
  const wide = cacheBytes(compressed, activations === 'float16' ? 16 : 32);
  note(
    `Keys and values take ${cacheBytes(compressed, bits)} bytes a token in place of ${wide}. transformers.js does not make such caches: use ONNX Runtime or onnxruntime-genai, on the CPU.`,
  );
  return measureCache(compressed, text, bits, { ...session, signal });
}

/** Enough to know the largest keys and values. */
const cacheSequences = 16;

async function accuracyOf(job: Job): Promise<AccuracyChoice> {
  const { accuracyLevel } = job.recipe.export;
  if (accuracyLevel !== 'auto') return { level: accuracyLevel };
  const compared = job.texts.evaluation && sameWords(job.original.model, job.compressed);
  if (!measuresLevels(job.recipe.export) || !compared) return { level: 0 };
  return chooseAccuracy(job.compressed, job.scratch, (files, choose) =>
    lossOfRivals(
      job,
      files.map((file) => exported(job, file)),
      choose,
    ),
  );
}
