/** Where llama.cpp is, if it is installed: node-llama-cpp is an optional companion, 670 MB with all of its builds. */

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { askLlama, LlamaFailure } from './process.ts';

export interface Llama {
  /** The address of node-llama-cpp's module. */
  readonly entry: string;
  /** For people: "llama.cpp v0.5.0 (node-llama-cpp 3.22.1)". */
  readonly engine: string;
}

export interface MissingLlama {
  /** Why there is none, in one line. */
  readonly missing: string;
}

const name = 'node-llama-cpp';

/**
 * Looks for node-llama-cpp from a folder upwards, in NODE_PATH, beside this package and among the globally installed ones.
 * @param options.from the working folder without it
 */
export async function findLlama({
  from = process.cwd(),
  signal,
}: {
  readonly from?: string | undefined;
  readonly signal?: AbortSignal | undefined;
} = {}): Promise<Llama | MissingLlama> {
  const file = installed(resolve(from, 'x'), import.meta.url, join(globalFolder(), 'x'));
  if (file === undefined) return { missing: `${name} is not installed (npm install ${name})` };
  const entry = pathToFileURL(file).href;
  const version = versionOf(file);
  try {
    const release = await askLlama(entry, 'release', {}, { signal });
    return { entry, engine: `llama.cpp ${release} (${name} ${version})` };
  } catch (error) {
    if (!(error instanceof LlamaFailure)) throw error;
    return { missing: `${name} ${version} does not run here: ${error.message}` };
  }
}

function installed(...places: readonly string[]): string | undefined {
  for (const place of places) {
    try {
      return createRequire(place).resolve(name);
    } catch {
      // Not there; perhaps in the next one.
    }
  }
  return undefined;
}

/** Where `npm install --global` puts packages, unless it was told otherwise. */
function globalFolder(): string {
  const home = dirname(process.execPath);
  return process.platform === 'win32' ? home : join(home, '..', 'lib');
}

function versionOf(file: string): string {
  for (let folder = dirname(file); ; folder = dirname(folder)) {
    try {
      const found = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
      if (found.name === name) return found.version;
    } catch {
      // Not a package's folder.
    }
    if (folder === dirname(folder)) return 'of unknown version';
  }
}
