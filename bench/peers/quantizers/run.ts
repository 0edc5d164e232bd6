/**
 * Other quantizers on the yardstick: each quantizes the linear layers of the base's blocks with our calibration tokens,
 * in its own process, and what it makes of the weights is measured by our own evaluation; one JSON line a setting, with
 * the settings, the bytes, KL divergence, perplexity, share of equal top tokens, seconds, CPU seconds and peak memory.
 *
 *   npx tsx bench/peers/quantizers/run.ts --python PYTHON --peer NAME --base FOLDER --calibration FILE
 *     --evaluation FILE [--bits 4] [--group 64] [--options JSON] [--threads 2] [--sequences 64] [--held 16]
 *     [--length 512] [--device cpu] [--keep FOLDER]
 *
 * quantize_NAME.py is a script beside this file: gptqmodel, llmcompressor, autoround, hqq, onnxruntime; its head comment says what
 * PYTHON needs installed and which options it takes. Several --bits and several --options may be given: all pairs run.
 * Seconds are the quantization alone, without imports, loading and saving; `loadedBytes` is the peak of the process
 * before it, `peakBytes` to its end. With --device cuda they say nothing; it is for quality where two cores take hours.
 */

import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { openModel } from '../../../src/open.ts';
import { openYardstick, writeTokens, yardstickFlags } from './tokens.ts';

const { values: flags } = parseArgs({
  options: {
    ...yardstickFlags,
    python: { type: 'string', default: 'python3' },
    peer: { type: 'string' },
    bits: { type: 'string', multiple: true, default: ['4'] },
    group: { type: 'string', default: '64' },
    options: { type: 'string', multiple: true, default: ['{}'] },
    device: { type: 'string', default: 'cpu' },
    keep: { type: 'string' },
  },
});
const { peer } = flags;
if (!peer) throw new Error('--peer NAME is needed');
const yardstick = await openYardstick(flags);
const folder = flags.keep ?? mkdtempSync(join(tmpdir(), 'lapidary-peers-'));

/** What a script prints last. */
interface Answer {
  readonly bytes: number;
  readonly bitsPerWeight: number;
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly loadedBytes: number;
  readonly peakBytes: number;
  readonly versions: Readonly<Record<string, string>>;
}

function quantize(job: Readonly<Record<string, unknown>>): Answer {
  const [path, answer] = [join(folder, 'job.json'), join(folder, 'answer.json')];
  writeFileSync(path, JSON.stringify({ ...job, answer }));
  const script = fileURLToPath(new URL(`quantize_${peer}.py`, import.meta.url));
  // Some leave logs where they run.
  const where = { cwd: folder, stdio: ['ignore', 2, 2] as ('ignore' | number)[] };
  const { status, error } = spawnSync(flags.python, [script, path], where);
  if (status !== 0) throw new Error(`${peer} ended with ${status ?? error}`);
  return JSON.parse(readFileSync(answer, 'utf8')) as Answer;
}

mkdirSync(folder, { recursive: true });
try {
  const tokens = join(folder, 'tokens.json');
  writeTokens(tokens, yardstick.calibration);
  for (const text of flags.options) {
    for (const bits of flags.bits.map(Number)) {
      const options = JSON.parse(text) as Record<string, unknown>;
      const out = join(folder, 'dequantized');
      rmSync(out, { recursive: true, force: true });
      mkdirSync(out);
      for (const file of ['config.json', 'tokenizer.json', 'tokenizer_config.json'])
        copyFileSync(join(flags.base!, file), join(out, file));
      const setting = { bits, group: Number(flags.group), device: flags.device, options };
      try {
        const answer = quantize({
          base: resolve(flags.base!),
          tokens,
          out,
          threads: yardstick.threads,
          ...setting,
        });
        const { model } = await openModel(out);
        const measured = await yardstick.measure(model!);
        console.log(JSON.stringify({ bench: 'quantizers', peer, ...setting, ...answer, ...measured }));
      } catch (problem) {
        console.error(problem);
        console.log(JSON.stringify({ bench: 'quantizers', peer, ...setting, failed: `${problem}` }));
        process.exitCode = 1;
      }
    }
  }
} finally {
  if (!flags.keep) rmSync(folder, { recursive: true });
}
