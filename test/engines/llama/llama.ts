/** llama.cpp where test/engines/install.js has put it. */

import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import type { Llama } from '../../../src/export/llama/find.ts';
import { findLlama } from '../../../src/export/llama/find.ts';

/** What the product is told to look in. */
export const llamaFolder = dirname(fileURLToPath(import.meta.url));

export const hasLlama = existsSync(join(llamaFolder, 'node_modules', '.installed'));

/** @returns what the product finds, with a module in its place that starts in half the time. */
export async function openLlama(): Promise<Llama> {
  const found = await findLlama({ from: llamaFolder });
  if ('missing' in found) throw new Error(found.missing);
  return { ...found, entry: pathToFileURL(join(llamaFolder, 'quick.js')).href };
}
