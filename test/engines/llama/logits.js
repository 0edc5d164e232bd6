/**
 * Runs in a process of its own, since llama.cpp ends the one it is in when a file displeases it:
 *
 *   node logits.js MODEL OUT < {"ids": [[1, 2, 3], ...], "text": "..."}
 *
 * writes two files: OUT.logits, float32 [positions of all sequences, vocabulary], and OUT.json, the ids of the text and
 * the number of tokens.
 */

import { readFileSync, writeFileSync } from 'node:fs';

// Named apart, so that nothing looks for it where it is not installed.
const engine = 'node-llama-cpp';
const { getLlama, LlamaLogLevel } = await import(engine);

const [path, out] = process.argv.slice(2);
/** @type {{ ids?: number[][], text?: string }} */
const { ids = [], text = '' } = JSON.parse(readFileSync(0, 'utf8'));

const llama = await getLlama({
  build: 'never',
  gpu: false,
  skipDownload: true,
  logLevel: LlamaLogLevel.error,
  maxThreads: 2,
});
const model = await llama.loadModel({ modelPath: path, gpuLayers: 0 });
const rows = [];
for (const row of ids) {
  // With room to spare: a full one would be shifted.
  const context = await model.createContext({ contextSize: row.length + 64, batchSize: row.length });
  const found = await context
    .getSequence()
    .controlledEvaluate(row.map((id) => [id, { generateNext: { logits: true } }]));
  for (const { next } of found) {
    const values = new Float32Array(next.logits.size);
    for (const [id, value] of next.logits) values[id] = value;
    rows.push(values);
  }
  await context.dispose();
}
writeFileSync(`${out}.logits`, Buffer.concat(rows.map(({ buffer }) => new Uint8Array(buffer))));
writeFileSync(
  `${out}.json`,
  JSON.stringify({ tokens: model.tokenize(text, true), vocabulary: rows[0]?.length }),
);
// Its threads would keep the process.
process.exit(0);
