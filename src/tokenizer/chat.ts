/**
 * Chat templates: Jinja programs that come with a model and write a conversation the way it was trained on, through
 * @huggingface/jinja (which brings raise_exception, strftime_now and tojson).
 */

import { LapidaryError } from '../base/errors.ts';
import { LibraryFailure } from '../base/guard/guard.ts';
import { openTemplate } from './engine.ts';

export interface ChatMessage {
  readonly role: string;
  readonly content: string;
}

/** A conversation as text: ready for the model's answer, or `whole`, as it is where the last message is the answer. */
export type Chat = (messages: readonly ChatMessage[], options?: { readonly whole?: boolean }) => string;

/**
 * Templates are handed what transformers and transformers.js hand to them: no tools and no documents are none, not undefined.
 * @param tokens special tokens by the names that templates use ("bos_token")
 */
export function chatTemplate(
  source: string | undefined,
  tokens: Readonly<Record<string, string>>,
): Chat | undefined {
  if (source === undefined) return undefined;
  const render = openTemplate(source, 'chat template');
  return (messages, { whole = false } = {}) => {
    try {
      const given = { messages, add_generation_prompt: !whole, tools: null, documents: null };
      return render({ ...given, ...tokens });
    } catch (cause) {
      if (!(cause instanceof LibraryFailure)) throw cause;
      throw new LapidaryError({
        what: "the model's chat template does not take this conversation",
        where: 'chat template',
        found: cause.message,
        fix: 'change the order of roles, or use the model without its template',
        cause,
      });
    }
  };
}
