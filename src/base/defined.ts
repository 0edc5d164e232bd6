/** Options over others: fields that are there and undefined must not go over those that have a value. */

/** Without fields that are undefined. */
export const defined = (values: Readonly<Record<string, unknown>>): Record<string, unknown> =>
  Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));
