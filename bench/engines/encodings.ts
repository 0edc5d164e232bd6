/**
 * How fast each encoding runs that the ONNX export writes, against float32: a Llama of random weights (768
 * wide, 4 layers, vocabulary 8192) with all matrices encoded alike.
 *
 *   npx tsx bench/engines/encodings.ts [--rounds 9] [--threads 1] [--only TEXT]
 *
 * Each is run in turn with float32, round by round; the least times count, since whatever else the machine does only
 * adds to them. One JSON line each: `decode` and `prompt` are the rates, times those of float32.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { FileRunner } from '../../src/evaluate/file.ts';
import { openFile } from '../../src/evaluate/file.ts';
import type { ExportOptions } from '../../src/export/graph.ts';
import { exportTransformers } from '../../src/export/transformers.ts';
import type { Encode } from './contenders.ts';
import { contenders, modelOf, plain } from './contenders.ts';
import type { Times } from './times.ts';
import { fresh, leastTimes, rounded } from './times.ts';

const { values: flags } = parseArgs({
  options: {
    rounds: { type: 'string', default: '9' },
    threads: { type: 'string', default: '1' },
    only: { type: 'string', default: '' },
  },
});
const [rounds, threads] = [Number(flags.rounds), Number(flags.threads)];

interface Opened {
  readonly bytes: number;
  readonly runner: FileRunner;
  readonly least: Times;
}

async function open(encode: Encode, options: ExportOptions = {}): Promise<Opened> {
  const folder = mkdtempSync(join(tmpdir(), 'lapidary-bench-'));
  try {
    const [file] = exportTransformers(await modelOf(encode), folder, { files: [options] });
    const runner = await openFile(join(folder, file!.path), { threads });
    return {
      bytes: file!.bytes,
      runner,
      least: fresh(),
    };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const base = await open(plain);
for (const { name, encode, options } of contenders) {
  if (!name.includes(flags.only)) continue;
  const own = await open(encode, options);
  Object.assign(base.least, fresh());
  for (let round = 0; round < rounds; round++)
    for (const { runner, least } of [base, own]) await leastTimes(runner, least);
  await own.runner.close();
  console.log(
    JSON.stringify({
      bench: 'engines/encodings',
      encoding: name,
      threads,
      rounds,
      share: rounded(own.bytes / base.bytes),
      decode: rounded(base.least.decode / own.least.decode),
      prompt: rounded(base.least.prompt / own.least.prompt),
      tokenMs: rounded(own.least.decode),
    }),
  );
}
await base.runner.close();
