/** Asks ggml's own code to quantize, where llama.cpp is installed for the tests. */

import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { BlockType } from '../src/encodings/blocks/index.ts';

const engine = join(import.meta.dirname, 'engines', 'llama');
export const hasGgml =
  existsSync(join(engine, 'node_modules', 'koffi')) &&
  existsSync(join(engine, 'node_modules', '@node-llama-cpp', 'linux-x64'));

export interface Job {
  readonly type: BlockType;
  readonly values: Float32Array;
  readonly columns: number;
  readonly importance?: Float32Array | undefined;
  /** How often it is done, for the best time; once without. */
  readonly repeats?: number;
}

export interface Answer {
  readonly blocks: Uint8Array;
  /** The blocks dequantized. */
  readonly values: Float32Array;
  readonly milliseconds: number;
}

export function askGgml(jobs: readonly Job[]): Answer[] {
  const folder = mkdtempSync(join(tmpdir(), 'lapidary-blocks-'));
  try {
    const names = new Map<Float32Array, string>();
    const nameOf = (values: Float32Array): string => {
      const name = names.get(values) ?? `${names.size}.f32`;
      if (!names.has(values)) writeFileSync(join(folder, name), new Uint8Array(values.buffer));
      names.set(values, name);
      return name;
    };
    const list = jobs.map(({ type: { id, name, size, bytes }, columns, values, importance, repeats }, i) => ({
      id,
      name,
      size,
      bytes,
      columns,
      repeats,
      out: `${i}`,
      values: nameOf(values),
      importance: importance && nameOf(importance),
    }));
    writeFileSync(join(folder, 'jobs.json'), JSON.stringify(list));
    const { status, stderr } = spawnSync(process.execPath, [join(engine, 'blocks.js'), folder]);
    if (status !== 0) throw new Error(`ggml ended with ${status}: ${stderr}`);
    const times = JSON.parse(readFileSync(join(folder, 'times.json'), 'utf8')) as number[];
    return times.map((milliseconds, i) => ({
      milliseconds,
      blocks: new Uint8Array(readFileSync(join(folder, `${i}.blocks`))),
      values: new Float32Array(new Uint8Array(readFileSync(join(folder, `${i}.values`))).buffer),
    }));
  } finally {
    rmSync(folder, { recursive: true });
  }
}
