/** Reads the training text: stories, each ended by a line "<|endoftext|>"; plain or gzip. */

import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';

export const separator = '<|endoftext|>';

export function readStories(path: string): string[] {
  const bytes = readFileSync(path);
  const text = (path.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString('utf8');
  return text
    .split(separator)
    .map((story) => story.trim())
    .filter((story) => story.length > 0);
}
