/**
 * Ids and addresses of the Hugging Face hub, which every command may be given. The client is not loaded for them: that takes
 * as long as all else together that a command begins with.
 */

import { ExitCode, LapidaryError } from '../base/errors.ts';

/** Whether a text reads as "org/name". */
export function isHubId(text: string): boolean {
  return /^[A-Za-z0-9][\w.-]{0,95}\/[A-Za-z0-9_][\w.-]{0,95}$/.test(text) && !text.includes('..');
}

/** Where the hub is, without a slash at the end. */
export const hubAddress = (): string =>
  (process.env.HF_ENDPOINT || 'https://huggingface.co').replace(/\/+$/, '');

/**
 * The id in the address of a model's page, which is what people copy; any other text as it is.
 * @throws LapidaryError (usage) on the page of a revision, which has a flag of its own
 */
export function withoutAddress(text: string): string {
  const start = [`${hubAddress()}/`, 'https://huggingface.co/', 'https://hf.co/'].find((each) =>
    text.startsWith(each),
  );
  if (start === undefined) return text;
  const [org, name, kind, revision = 'main'] = text
    .slice(start.length)
    .replace(/[?#].*$/, '')
    .split('/');
  const id = `${org}/${name}`;
  if (name === undefined || !isHubId(id)) return text;
  if (!kind || revision === 'main') return id;
  throw new LapidaryError(
    {
      what: 'the address names a revision',
      where: text,
      expected: 'the page of a model, or its id',
      fix: `give ${id} --revision ${revision}`,
    },
    ExitCode.usage,
  );
}

/** Whether the environment forbids the network, as for all tools of the hub. */
export function isOffline(): boolean {
  return /^(1|true|yes|on)$/i.test(process.env.HF_HUB_OFFLINE ?? '');
}
