/** llama.cpp in a process of its own, where test/engines/install.js has put it. */

import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const folder = dirname(fileURLToPath(import.meta.url));

export const hasLlama = existsSync(join(folder, 'node_modules', '.installed'));

export interface Question {
  /** A GGUF file. */
  readonly path: string;
  readonly ids: readonly (readonly number[])[];
  readonly texts: readonly string[];
}

export interface Answer {
  /** [positions of all sequences, vocabulary]. */
  readonly logits: Float32Array;
  /** Ids of each text. */
  readonly tokens: readonly (readonly number[])[];
}

/** @throws Error with what llama.cpp said where it does not load or compute one of the files */
export function askLlama(questions: readonly Question[]): Answer[] {
  const out = mkdtempSync(join(tmpdir(), 'lapidary-llama-'));
  try {
    const { status, signal, stderr } = spawnSync(process.execPath, [join(folder, 'logits.js'), out], {
      input: JSON.stringify(questions),
      encoding: 'utf8',
    });
    if (status !== 0) throw new Error(`llama.cpp ended with ${signal ?? status}: ${stderr}`);
    return questions.map((_, n) => ({
      logits: new Float32Array(new Uint8Array(readFileSync(join(out, `${n}.logits`))).buffer),
      tokens: JSON.parse(readFileSync(join(out, `${n}.json`), 'utf8')),
    }));
  } finally {
    rmSync(out, { recursive: true });
  }
}
