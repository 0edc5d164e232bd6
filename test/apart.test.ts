/** Files of methods that round inputs, or keep some weights apart: loaded again, they compute what was in memory. */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { encodedBytes } from '../src/encodings/encoding.ts';
import type { ExportOptions } from '../src/export/graph.ts';
import { exportTransformers } from '../src/export/transformers.ts';
import { verifyExport } from '../src/export/verify.ts';
import type { LinearMethod } from '../src/contract/method.ts';
import { llmInt8 } from '../src/methods/quantize/llm-int8.ts';
import { owq } from '../src/methods/quantize/owq.ts';
import { spqr } from '../src/methods/quantize/spqr.ts';
import { w4a8 } from '../src/methods/quantize/w4a8.ts';
import { w8a8 } from '../src/methods/quantize/w8a8.ts';
import type { Model } from '../src/models/model.ts';
import { openGolden } from './engines/models.ts';

const ids = Array.from({ length: 16 }, (_, i) => 3 + ((i * 53) % 200));
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'lapidary-apart-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Every matrix of the model, as if its inputs were independent, every ninth of them a loud one; tied tables too. */
async function compressed(method: LinearMethod, options: object): Promise<Model> {
  const model = await openGolden('llama-tied-llama3rope');
  const parsed = method.options.parse(options);
  const matrices = new Map(model.matrices);
  for (const [name, encoding] of matrices) {
    const [rows, columns] = encoding.shape;
    const peaks = Float32Array.from({ length: columns }, (_, i) => (i % 9 === 0 ? 8 : 1));
    const gram = new Float32Array(columns * columns);
    peaks.forEach((peak, i) => {
      gram[i * columns + i] = peak ** 2;
    });
    const squares = peaks.map((peak) => peak ** 2);
    const statistic = { tokens: 1, squares, sizes: peaks, peaks, gram };
    matrices.set(name, await method.compress({ rows, columns, values: encoding.dense() }, statistic, parsed));
  }
  return { ...model, matrices };
}

const cases: readonly [string, LinearMethod, object, ExportOptions][] = [
  ['w8a8', w8a8, {}, { activations: 'float32' }],
  [
    'w8a8 with static inputs',
    w8a8,
    { inputs: 'static', rounding: 'compensated' },
    { activations: 'float32' },
  ],
  ['w8a8', w8a8, {}, { activations: 'float16' }],
  ['w4a8', w4a8, {}, { activations: 'float16' }],
  ['llm-int8', llmInt8, {}, { activations: 'float16' }],
  ['owq', owq, { share: 0.05 }, { activations: 'float16' }],
  ['spqr', spqr, {}, { activations: 'float16' }],
];

it.each(cases)('%s: a file computes what was in memory', async (_, method, options, form) => {
  const model = await compressed(method, options);
  const [file] = exportTransformers(model, folder, { files: [form] });
  const { worst } = await verifyExport(join(folder, file.path), model, ids, form);
  expect(worst).toBeLessThan(form.activations === 'float16' ? 0.1 : 0.05);
  const weights = [...model.matrices.values()].reduce((sum, each) => sum + encodedBytes(each), 0);
  const vectors = [...model.vectors.values()].reduce((sum, each) => sum + each.byteLength, 0);
  // What a file has besides its weights is the graph.
  expect(file.bytes).toBeGreaterThan(weights);
  expect(file.bytes - weights - vectors).toBeLessThan(150_000);
});
