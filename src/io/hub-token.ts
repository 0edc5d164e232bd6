/** The token that every Hugging Face tool uses, from where each of them looks for it. */

import { existsSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { ExitCode, LapidaryError } from '../base/errors.ts';

/**
 * HF_TOKEN, HUGGING_FACE_HUB_TOKEN, or the file that `hf auth login` writes (HF_TOKEN_PATH, HF_HOME/token,
 * ~/.cache/huggingface/token).
 * @param given on the command line, which goes before all
 * @throws LapidaryError (usage) on what is no token, without saying it
 */
export function hubToken(given?: string): string | undefined {
  for (const [where, text] of places(given)) {
    const token = text?.trim();
    if (!token) continue;
    if (token.startsWith('hf_')) return token;
    throw new LapidaryError(
      {
        what: 'not a token of the hub',
        where,
        expected: 'text that starts with "hf_"',
        fix: `correct ${where} or leave it out`,
      },
      ExitCode.usage,
    );
  }
  return undefined;
}

function* places(given: string | undefined): Generator<readonly [where: string, text: string | undefined]> {
  yield ['--token', given];
  yield ['HF_TOKEN', process.env.HF_TOKEN];
  yield ['HUGGING_FACE_HUB_TOKEN', process.env.HUGGING_FACE_HUB_TOKEN];
  const { HF_TOKEN_PATH: path, HF_HOME: home, XDG_CACHE_HOME: cache } = process.env;
  const file = path || join(home || join(cache || join(homedir(), '.cache'), 'huggingface'), 'token');
  if (existsSync(file)) yield [file, readFileSync(file, 'utf8')];
}
