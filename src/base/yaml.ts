/** YAML that anybody may have written, within the same bounds as JSON. */

import { parseDocument } from 'yaml';
import { LapidaryError } from './errors.ts';
import { checkValueDepth, shortened } from './json.ts';

/** Plain values. @throws LapidaryError on what is no YAML, with its line, and on what is nested too deeply or within itself */
export function parseYaml(text: string, where: string): unknown {
  let value: unknown;
  try {
    const document = parseDocument(text, { logLevel: 'error' });
    if (document.errors[0]) throw document.errors[0];
    value = document.toJS();
  } catch (cause) {
    const found = shortened(`${(cause as Error).message}`, 400);
    throw new LapidaryError({ what: 'this is not YAML', where, found, cause });
  }
  checkValueDepth(value, { where });
  return value;
}
