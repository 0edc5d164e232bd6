/** Checkpoints that are odd in one way each, and what becomes of them in every format that is written. */

import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { compress } from '../src/index.ts';
import { checkRecipe } from '../src/recipe/recipe.ts';
import { scratchFolder } from './command-line.ts';
import { hasLlama, llamaFolder } from './engines/llama/llama.ts';
import { transformers } from './engines/transformers.ts';
import type { Oddity } from './models/byte-llama.ts';
import { sizes, writeByteLlama } from './models/byte-llama.ts';

const shared = '../shared/cases';
/** A file of tests has one of its own, and removes it. */
export const scratch = scratchFolder();
export const withoutLlama = hasLlama ? '' : ' (skipped: run node test/engines/install.js)';
export const withoutTransformers = transformers ? '' : ' (skipped: run node test/engines/install.js)';

export const formats = ['onnx', 'gguf', 'compressed-tensors', 'gptq', 'awq', 'mlx'] as const;
export type FormatName = (typeof formats)[number];
export const folders: readonly FormatName[] = formats.filter((format) => format !== 'gguf');

/** A case made here, and the shared one of its name. */
export async function sources(name: string, oddity: Oddity): Promise<string[]> {
  const made = await writeByteLlama(scratch.path(name), oddity);
  return existsSync(join(shared, name)) ? [made, join(shared, name)] : [made];
}

let count = 0;

export interface Result {
  readonly out: string;
  readonly notes: readonly string[];
  json(name: string): Record<string, unknown>;
}

export async function written(model: string, format: FormatName): Promise<Result> {
  const out = scratch.path(`out-${count++}`);
  // Keys and values of the smallest of these models are narrower than a word of GPTQ.
  const steps = [{ method: 'rtn', bits: 4, group: 32, symmetric: format === 'gptq', targets: ['*.mlp.*'] }];
  const recipe = checkRecipe({ model, steps, export: { format } });
  const notes: string[] = [];
  await compress({ recipe, out, speed: false, answers: false, threads: 1, warn: (line) => notes.push(line) });
  return { out, notes, json: (name) => JSON.parse(readFileSync(join(out, name), 'utf8')) };
}

/** What llama.cpp takes from the GGUF file of a folder. */
export function inLlama({ out }: Result, rows = sizes.rows): { ends: number[]; template?: string } {
  const file = readdirSync(out).find((name) => name.endsWith('.gguf'))!;
  const args = [join(llamaFolder, 'vocabulary.js'), join(out, file), `${rows}`];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  expect(status, stderr).toBe(0);
  return JSON.parse(stdout);
}
