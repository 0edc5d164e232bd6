/** Words as a shell takes them, for commands that people copy. */

/** @returns the text as one word, in quotes where it needs them; a path that starts like a flag gets its folder */
export function shellWord(text: string): string {
  const word = text.startsWith('-') ? `./${text}` : text;
  return /^[\w./@:-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
