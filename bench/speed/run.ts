/**
 * How long `lapidary compress` takes beside another build of it, in turns on the same machine, and what both lose.
 *
 *   npx tsx bench/speed/run.ts --other CHECKOUT [--turns 3] [--scratch FOLDER] [-- ARGUMENTS OF compress]
 *
 * CHECKOUT is a clone of this repository at another commit, built (`npm ci`). Without arguments what is run is
 * `lapidary compress`: pebble, with nothing said. The recommended recipe on the base that scripts/yardstick/make.ts writes:
 *
 *   npx tsx bench/speed/run.ts --other CHECKOUT --turns 2 -- BASE --for transformers.js --calibration c4.utf8 \
 *     --sequences 64 --length 512
 *
 * One JSON line a run: seconds of wall clock, of processor time (of this thread's children: a spinning thread counts as a
 * working one) and by phase, the peak of resident memory in MB, mean KL and perplexity ratio from its report; then one line
 * with medians and the ratios of this build to the other. Run it alone, nothing else on the machine. Needs GNU time.
 */

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { median } from '../../src/evaluate/bootstrap.ts';

const split = process.argv.indexOf('--');
const own = split < 0 ? process.argv.slice(2) : process.argv.slice(2, split);
const passed = split < 0 ? [] : process.argv.slice(split + 1);
const { values: flags } = parseArgs({
  args: own,
  options: {
    other: { type: 'string' },
    turns: { type: 'string', default: '3' },
    scratch: { type: 'string', default: tmpdir() },
  },
});
if (!flags.other) throw new Error('--other CHECKOUT is needed: a built clone at another commit');

const builds = { other: resolve(flags.other), this: resolve(import.meta.dirname, '../..') };
type Build = keyof typeof builds;

interface Run {
  readonly build: Build;
  readonly seconds: number;
  readonly processorSeconds: number;
  readonly peakMB: number;
  readonly kl: number | undefined;
  readonly perplexityRatio: number | undefined;
  readonly bytes: number;
  readonly phases: Readonly<Record<string, number>>;
}

function run(build: Build): Run {
  const scratch = mkdtempSync(join(flags.scratch, 'lapidary-speed-'));
  const out = join(scratch, 'out');
  const entry = join(builds[build], 'bin', 'lapidary.js');
  const measured = [
    '-f',
    'measured %e %U %S %M',
    process.execPath,
    entry,
    'compress',
    ...passed,
    '--out',
    out,
  ];
  try {
    const { status, stderr } = spawnSync('time', measured, { encoding: 'utf8', maxBuffer: 2 ** 28 });
    if (status !== 0) throw new Error(`${build}: ${stderr.slice(-2000)}`);
    const [wall, user, system, kilobytes] = /measured (\S+) (\S+) (\S+) (\S+)/
      .exec(stderr)!
      .slice(1)
      .map(Number);
    const { compressed, timings } = JSON.parse(readFileSync(join(out, 'report.json'), 'utf8'));
    return {
      build,
      seconds: wall!,
      processorSeconds: user! + system!,
      peakMB: kilobytes! / 1024,
      kl: compressed.kl?.mean,
      perplexityRatio: compressed.perplexityRatio?.value,
      bytes: compressed.bytes,
      phases: timings.seconds,
    };
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

const runs: Run[] = [];
for (let turn = 0; turn < Number(flags.turns); turn++) {
  for (const build of ['other', 'this'] as const) {
    const result = run(build);
    runs.push(result);
    console.log(JSON.stringify(result));
  }
}

const of = (build: Build, what: 'seconds' | 'processorSeconds' | 'peakMB' | 'kl') =>
  median(runs.flatMap((each) => (each.build === build && each[what] !== undefined ? [each[what]] : [])));
const compared = (what: Parameters<typeof of>[1]) => {
  const [before, now] = [of('other', what), of('this', what)];
  return { other: before, this: now, ratio: now / before };
};
console.log(
  JSON.stringify({
    medians: {
      seconds: compared('seconds'),
      processorSeconds: compared('processorSeconds'),
      peakMB: compared('peakMB'),
      kl: compared('kl'),
    },
  }),
);
