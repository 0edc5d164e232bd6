/** Versions of this package and of what is installed with it, for reports and `--version`. */

import { readFileSync } from 'node:fs';

/** Of this package, or of one that is installed with it. */
export function version(name: string): string {
  const manifest =
    name === 'lapidary'
      ? new URL('../package.json', import.meta.url)
      : new URL(import.meta.resolve(`${name}/package.json`));
  return (JSON.parse(readFileSync(manifest, 'utf8')) as { version: string }).version;
}
