/** The plan of a run, through the real command line, and whether the run then takes what it said. */

import { existsSync, readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { Plan } from '../src/plan/plan.ts';
import { answer, lapidary, lapidaryTelling, scratchFolder, writeStories } from './command-line.ts';
import { writeShortPebble } from './models/checkpoint.ts';

const scratch = scratchFolder();
afterAll(scratch.remove);

describe('compress --memory', () => {
  it('shows what the run will need by phase, and does nothing', async () => {
    const out = scratch.path('new/out');
    const { code, stdout, stderr } = await answer(['compress', '--memory', '--threads', '2', '--out', out]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/load +\d+ MB(.|\n)*compress the blocks +\d+ MB(.|\n)*measure speed +\d+ MB/);
    expect(stdout).toMatch(/the result +\d+\.\d+ MB/);
    expect(stderr).not.toContain('compress:');
    expect(existsSync(scratch.path('new'))).toBe(false);
    const without = await answer(['compress', '--memory', '--no-speed', '--out', out]);
    expect(without.stdout).toMatch(/the result +\d+\.\d+ MB/);
    expect(without.stdout).not.toContain('speed');
  });

  it.skipIf(!existsSync('/proc/self/status'))(
    'says what the run then takes (skipped where the system does not tell)',
    async () => {
      const out = scratch.path('out');
      // What is compressed takes most; text to measure on takes only time.
      const few = scratch.path('few.jsonl');
      writeStories(few, 4);
      // Blocks are compressed one at a time: two take what six do.
      const short = scratch.path('short');
      await writeShortPebble(short);
      const texts = ['--calibration', resolve('models/pebble/stories.jsonl'), '--evaluation', few];
      const args = ['compress', short, ...texts, '--sequences', '16', '--threads', '2', '--out', out];
      const plan: Plan = JSON.parse((await lapidary([...args, '--memory', '--json'])).stdout);
      const tell =
        "import { readFileSync } from 'node:fs';" +
        "process.on('exit', () => process.stderr.write(readFileSync('/proc/self/status', 'utf8')));";
      const { status, stderr } = lapidaryTelling(tell, args);
      expect(status).toBe(0);
      const peak = 1024 * Number(/VmHWM:\s+(\d+) kB/.exec(stderr)![1]);
      expect(plan.memory.bytes / peak).toBeGreaterThan(0.75);
      expect(plan.memory.bytes / peak).toBeLessThan(1.4);
      const written = readdirSync(out, { recursive: true }).map(String);
      expect(written).toContain(join('onnx', 'model_q4.onnx'));
    },
  );
});
