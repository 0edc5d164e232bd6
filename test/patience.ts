/**
 * How long tests wait for a computer: far longer than any takes, since this ends what hangs, and never says that
 * something is slow. Under load the same test took ten times as long.
 */

/** Milliseconds of one test or hook, and of an answer from a page or another process. */
export const patience = 20 * 60_000;
