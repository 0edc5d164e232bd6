/**
 * Runs in a process of its own, since llama.cpp ends the one it is in when a file displeases it:
 *
 *   node logits.js OUT < [{"path": "model.gguf", "ids": [[1, 2, 3], ...], "texts": ["...", ...]}, ...]
 *
 * writes for question N the logits of every position of every sequence to OUT/N.logits, float32 [positions, vocabulary],
 * and the ids of every text to OUT/N.json.
 */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

// Named apart, so that nothing looks for it where it is not installed.
const engine = 'node-llama-cpp';
const { getLlama, LlamaLogLevel } = await import(engine);

const [out] = process.argv.slice(2);
/** @type {{ path: string, ids: number[][], texts: string[] }[]} */
const questions = JSON.parse(readFileSync(0, 'utf8'));

const llama = await getLlama({
  build: 'never',
  gpu: false,
  skipDownload: true,
  logLevel: LlamaLogLevel.error,
  maxThreads: 2,
});
for (const [n, { path, ids, texts }] of questions.entries()) {
  const model = await llama.loadModel({ modelPath: path, gpuLayers: 0 });
  const rows = [];
  for (const row of ids) {
    // With room to spare: a full one would be shifted.
    const context = await model.createContext({ contextSize: row.length + 64, batchSize: row.length });
    const asked = row.map((id) => [id, { generateNext: { logits: true } }]);
    for (const { next } of await context.getSequence().controlledEvaluate(asked)) {
      const values = new Float32Array(next.logits.size);
      for (const [id, value] of next.logits) values[id] = value;
      rows.push(new Uint8Array(values.buffer));
    }
    await context.dispose();
  }
  writeFileSync(join(out, `${n}.logits`), Buffer.concat(rows));
  writeFileSync(join(out, `${n}.json`), JSON.stringify(texts.map((text) => model.tokenize(text, true))));
  await model.dispose();
}
// Its threads would keep the process.
process.exit(0);
