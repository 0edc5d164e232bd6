/**
 * llama.cpp at work, in a process of its own, since it ends the one it is in when a file displeases it. Plain
 * JavaScript, because the process starts from the file itself, in the source tree and in the built package alike.
 *
 * The parent sends messages { entry, threads, job, ...arguments }, each when the one before is answered, `entry` the
 * address of node-llama-cpp's module; back goes { found } or { error }. What llama.cpp says of its own is on standard error.
 */

import { setTimeout } from 'node:timers/promises';

/** After that long no further run begins. */
const mostMilliseconds = 20_000;

/** Logits of so many tokens at a time are in memory as the engine's bindings give them, 40 bytes each. */
const logitsAtOnce = 2 ** 20;

/**
 * Logits of every position of each sequence, float32 [positions, vocabulary].
 * @param {any} model
 * @param {{ sequences: number[][] }} question
 */
async function logits(model, { sequences }) {
  const found = [];
  for (const ids of sequences) {
    const sequence = await open(model, ids.length);
    /** @type {Float32Array[]} */
    const rows = [];
    for (let at = 0; at < ids.length; at = rows.length) {
      // The first one alone, to learn how many there are.
      const count = at === 0 ? 1 : Math.max(1, Math.floor(logitsAtOnce / rows[0].length));
      const asked = ids.slice(at, at + count).map((id) => [id, { generateNext: { logits: true } }]);
      for (const { next } of await sequence.controlledEvaluate(asked)) {
        const row = new Float32Array(next.logits.size);
        for (const [id, value] of next.logits) row[id] = value;
        rows.push(row);
      }
    }
    const all = new Float32Array(rows.length * rows[0].length);
    for (const [n, row] of rows.entries()) all.set(row, n * row.length);
    found.push(all);
    await sequence.context.dispose();
  }
  return found;
}

/**
 * Ids of each text, special tokens written out in it among them.
 * @param {any} model
 * @param {{ texts: string[] }} question
 */
async function tokens(model, { texts }) {
  return texts.map((text) => model.tokenize(text, true));
}

/**
 * The most likely tokens behind each prompt, one by one, up to one that ends a text.
 * @param {any} model
 * @param {{ prompts: number[][], tokens: number, ends: number[] }} question
 */
async function greedy(model, { prompts, tokens, ends }) {
  const next = { generateNext: { token: true, options: { temperature: 0 } } };
  const found = [];
  for (const prompt of prompts) {
    const sequence = await open(model, prompt.length + tokens);
    /** @type {number[]} */
    const ids = [];
    /** @type {unknown[]} */
    let read = [...prompt.slice(0, -1), [prompt.at(-1), next]];
    while (ids.length < tokens) {
      const { token } = (await sequence.controlledEvaluate(read)).at(-1).next;
      if (ends.includes(token)) break;
      ids.push(token);
      read = [[token, next]];
    }
    found.push(ids);
    await sequence.context.dispose();
  }
  return found;
}

/**
 * Seconds of each run: of a prompt, and of the tokens generated one by one behind it. One more run comes first.
 * @param {any} model
 * @param {{ prompt: number, tokens: number, runs: number }} question
 */
async function times(model, { prompt, tokens, runs }) {
  const sequence = await open(model, prompt + tokens);
  const next = { generateNext: { token: true, options: { temperature: 0 } } };
  const id = (/** @type {number} */ index) => index % model.fileInsights.vocabularySize;
  const read = Array.from({ length: prompt }, (_, index) =>
    index === prompt - 1 ? [id(index), next] : id(index),
  );
  const found = [];
  const begun = performance.now();
  for (let run = 0; run <= runs; run++) {
    // Its threads spin while they wait: where others want the cores too, few runs must do.
    if (found.length > 1 && performance.now() - begun > mostMilliseconds) break;
    await sequence.clearHistory();
    const started = performance.now();
    await sequence.controlledEvaluate(read);
    const between = performance.now();
    for (let index = 0; index < tokens; index++) await sequence.controlledEvaluate([[id(index), next]]);
    found.push({ prefill: (between - started) / 1000, decode: (performance.now() - between) / 1000 });
  }
  await sequence.context.dispose();
  return found.slice(1);
}

/**
 * @param {any} model
 * @param {number} length
 */
async function open(model, length) {
  const context = await model.createContext({
    // With room to spare: a full one would be shifted.
    contextSize: length + 64,
    batchSize: Math.min(length, 512),
    ignoreMemorySafetyChecks: true,
  });
  return context.getSequence();
}

const jobs = { logits, tokens, greedy, times };

/** @type {Promise<any> | undefined} */
let opened;

/** @param {string} entry */
async function openLlama(entry) {
  const { getLlama, LlamaLogLevel } = await import(entry);
  return getLlama({
    build: 'never',
    gpu: false,
    skipDownload: true,
    logLevel: LlamaLogLevel.error,
    logger: (/** @type {unknown} */ _level, /** @type {string} */ line) =>
      process.stderr.write(`${line.trimEnd()}\n`),
  });
}

/** @param {any} question */
async function answer({ entry, threads, job, path, ...question }) {
  const llama = await (opened ??= openLlama(entry));
  if (job === 'release') return llama.llamaCppRelease.release;
  llama.maxThreads = threads;
  const model = await llama.loadModel({ modelPath: path, gpuLayers: 0, ignoreMemorySafetyChecks: true });
  const found = await jobs[/** @type {keyof typeof jobs} */ (job)](model, question);
  await model.dispose();
  return found;
}

process.on('message', async (question) => {
  const reply = await answer(question).then(
    (found) => ({ found }),
    async (error) => {
      // What llama.cpp said of it arrives after the error.
      await setTimeout(100);
      return { error: error.message };
    },
  );
  process.send?.(reply);
});
// A terminal interrupts all of a command's processes; the parent decides what that means.
process.on('SIGINT', () => {});
// Nobody is there to ask. The engine's threads would keep the process.
process.once('disconnect', () => process.exit(0));
