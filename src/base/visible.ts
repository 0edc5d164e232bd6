/** Text of strangers on a terminal: names in a model's files may hold what moves its cursor, renames its window, or hides lines. */

/** @returns the text with control characters, but for ends of lines and tabs, as JSON escapes them */
export const visible = (text: string): string =>
  text.replace(/(?![\n\t])\p{Cc}/gu, (mark) => `\\u${mark.codePointAt(0)!.toString(16).padStart(4, '0')}`);
