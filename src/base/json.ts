/** JSON that anybody may have written: looked at before it is believed, cut short before it is shown. */

/** Whether a parsed value is an object: not null, not a list. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A value for an error message: text as it is, anything else as JSON, of at most so many characters. */
export function shortened(value: unknown, length = 200): string {
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? 'nothing');
  return text.length > length ? `${text.slice(0, length)}...` : text;
}
