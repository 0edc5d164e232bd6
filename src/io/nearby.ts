/** What somebody may have meant by a path that does not exist: the entry beside it whose name is nearest. */

import { existsSync, readdirSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { closest, distance } from 'fastest-levenshtein';

/** Letters that a name may differ by to be taken for another. */
const mostTypos = (name: string): number => Math.max(1, Math.floor(name.length / 4));

/** @returns a folder or a model's file that exists, written as `path` is ("./models/pebble"); undefined where none is near */
export function nearestPath(path: string): string | undefined {
  const folder = existsSync(dirname(path)) ? dirname(path) : nearestPath(dirname(path));
  if (folder === undefined) return undefined;
  const name = basename(path).toLowerCase();
  const names = new Map(modelsIn(folder).map((each) => [each.toLowerCase(), each]));
  if (names.size === 0) return undefined;
  const near = closest(name, [...names.keys()]);
  if (distance(name, near) > mostTypos(name)) return undefined;
  const found = join(folder, names.get(near)!);
  return path.startsWith('./') ? `./${found}` : found;
}

/** Names of folders and of files that may be models. */
function modelsIn(folder: string): string[] {
  try {
    const entries = readdirSync(folder, { withFileTypes: true });
    return entries
      .filter((entry) => !entry.isFile() || /\.(gguf|onnx)$/.test(entry.name))
      .map(({ name }) => name)
      .filter((name) => !name.startsWith('.'));
  } catch {
    return [];
  }
}
