/**
 * Turns a row of data into a document: a text, or a conversation as chat data stores it ("messages" with role and content,
 * "conversations" with from and value). Files of every kind pass their rows to this one reader.
 */

import { LapidaryError } from '../base/errors.ts';
import { isObject, shortened } from '../base/json.ts';
import type { Chat, ChatMessage } from '../tokenizer/chat.ts';

export type Document = string | readonly ChatMessage[];

/** Fields that are read where none is named, in this order. */
const usualFields = ['text', 'messages', 'conversations'];

/** @throws LapidaryError naming the fields that there are */
export function chosenField(field: string | undefined, known: readonly string[], where: string): string {
  const found = field === undefined ? usualFields.find((name) => known.includes(name)) : field;
  if (found !== undefined && known.includes(found)) return found;
  throw new LapidaryError({
    what: `there is no field "${field ?? usualFields[0]}"`,
    where,
    found:
      known.length > 0 ? `the fields ${known.map((name) => `"${name}"`).join(', ')}` : 'no fields at all',
    fix: 'name the field that holds the text or the messages: --field NAME',
  });
}

/** A row's document; undefined where its field is empty. A row may also be the text itself, or the messages. */
export function documentOf(row: unknown, field: string | undefined, where: string): Document | undefined {
  if (typeof row === 'string') return row;
  if (Array.isArray(row)) return conversationOf(row, where);
  if (!isObject(row)) {
    throw new LapidaryError({
      what: 'this row is neither an object nor a text',
      where,
      expected: '{"text": "..."} or {"messages": [...]}',
      found: shortened(row, 60),
    });
  }
  const name = chosenField(field, Object.keys(row), where);
  const value = row[name];
  if (value === null || value === undefined) return undefined;
  if (typeof value === 'string') return value;
  if (Array.isArray(value)) return conversationOf(value, `${where}, "${name}"`);
  throw new LapidaryError({
    what: `"${name}" does not hold text`,
    where,
    expected: 'a string, or a list of messages',
    found: typeof value,
    fix: 'name the field that holds the text or the messages: --field NAME',
  });
}

export const isFull = (document: Document | undefined): document is Document =>
  document !== undefined && (typeof document === 'string' ? document.trim() : document).length > 0;

/** Names that data has for who speaks, where they are not those of chat templates. */
const roles: Readonly<Record<string, string>> = { human: 'user', gpt: 'assistant', bot: 'assistant' };

function conversationOf(messages: readonly unknown[], where: string): readonly ChatMessage[] {
  return messages.map((message, index) => messageOf(message, `${where}, message ${index + 1}`));
}

/** What else a message has (tool calls, a name) is its template's business. */
function messageOf(message: unknown, where: string): ChatMessage {
  const { from, value, ...more } = isObject(message) ? message : {};
  const role = more.role ?? from;
  const content = textOf(more.content ?? value);
  if (typeof role === 'string' && content !== undefined)
    return { ...more, role: Object.hasOwn(roles, role) ? roles[role] : role, content };
  throw new LapidaryError({
    what: 'this is no message of a conversation',
    where,
    expected: '{"role": "user", "content": "..."} or {"from": "human", "value": "..."}',
    found: isObject(message) ? `the fields ${Object.keys(message).join(', ') || 'none'}` : typeof message,
    fix: 'name the field that holds the text or the messages: --field NAME',
  });
}

/** A content may come in parts; of a call of tools it is null. */
function textOf(content: unknown): string | undefined {
  if (content === null || content === undefined) return '';
  if (typeof content === 'string') return content;
  if (!Array.isArray(content)) return undefined;
  const parts = content.map((part) =>
    isObject(part) && typeof part.text === 'string' ? part.text : undefined,
  );
  return parts.includes(undefined) ? undefined : parts.join('');
}

/**
 * Documents as texts, conversations by the model's own template.
 * @throws LapidaryError where there are conversations and no template
 */
export function renderedTexts(
  documents: readonly Document[],
  { chat }: { readonly chat?: Chat | undefined },
  where: string,
): string[] {
  return documents.map((document, index) => {
    if (typeof document === 'string') return document;
    if (chat) return inPlace(`${where}, conversation ${index + 1}`, () => chat(document, { whole: true }));
    throw new LapidaryError({
      what: 'the data holds conversations, and this model has no chat template to write them as text',
      where,
      expected: 'chat_template.jinja, or chat_template in tokenizer_config.json, beside the weights',
      fix: 'put the template of the model there, or give plain text (--field NAME takes another field)',
    });
  });
}

/** What a template refuses is told with the conversation's place. */
function inPlace<T>(where: string, render: () => T): T {
  try {
    return render();
  } catch (error) {
    if (!(error instanceof LapidaryError)) throw error;
    throw new LapidaryError({ ...error.problem, where });
  }
}
