/** What model cards say in their examples: one prompt for all formats, and texts as the languages of examples quote them. */

/** Of a model that continues text, and of one that answers: by whether it has a chat template. */
export const examplePrompt = (chat: boolean): string => (chat ? 'What is a lapidary?' : 'Once upon a time');

/** Messages that a chat template takes. */
export const exampleMessages = [{ role: 'user', content: examplePrompt(true) }] as const;

/** A text as JavaScript has it, in single quotes. */
export function scriptText(text: string): string {
  const inner = JSON.stringify(text).slice(1, -1).replaceAll('\\"', '"').replaceAll("'", "\\'");
  return `'${inner}'`;
}
