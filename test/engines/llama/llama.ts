/** llama.cpp in a process of its own, where test/engines/install.js has put it. */

import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const folder = dirname(fileURLToPath(import.meta.url));

export const hasLlama = existsSync(join(folder, 'node_modules', '.installed'));

export interface LlamaAnswer {
  /** [positions of all sequences, vocabulary]. */
  readonly logits: Float32Array;
  /** Ids of the text. */
  readonly tokens: readonly number[];
}

/** @throws Error with what llama.cpp said where it does not load or compute the file */
export function askLlama(
  path: string,
  question: { readonly ids: number[][]; readonly text: string },
): LlamaAnswer {
  const out = `${path}.answer`;
  const { status, signal, stderr } = spawnSync(process.execPath, [join(folder, 'logits.js'), path, out], {
    input: JSON.stringify(question),
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`llama.cpp ended with ${signal ?? status}: ${stderr}`);
  const { tokens } = JSON.parse(readFileSync(`${out}.json`, 'utf8'));
  return { tokens, logits: new Float32Array(new Uint8Array(readFileSync(`${out}.logits`)).buffer) };
}
