/**
 * Chat templates: Jinja programs that come with a model and write a conversation the way it was trained on, through
 * @huggingface/jinja (which brings raise_exception, strftime_now and tojson).
 */

import { Template } from '@huggingface/jinja';
import { LapidaryError } from '../base/errors.ts';

export interface ChatMessage {
  readonly role: string;
  readonly content: string;
}

/** @param tokens special tokens by the names that templates use ("bos_token") */
export function chatTemplate(
  source: string | undefined,
  tokens: Readonly<Record<string, string | undefined>>,
): ((messages: readonly ChatMessage[]) => string) | undefined {
  if (source === undefined) return undefined;
  const present = Object.fromEntries(Object.entries(tokens).filter(([, text]) => text !== undefined));
  let template: Template | undefined;
  return (messages) => {
    try {
      template ??= new Template(source);
      return template.render({ ...present, messages, add_generation_prompt: true });
    } catch (cause) {
      throw new LapidaryError({
        what: "the model's chat template does not take this conversation",
        where: 'chat template',
        found: (cause as Error).message,
        fix: 'change the order of roles, or use the model without its template',
        cause,
      });
    }
  };
}
