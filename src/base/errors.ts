/**
 * The one error that Lapidary throws on purpose: it says what is wrong, where, what was expected, what was
 * found and what to do. Anything else that escapes is a defect and is reported as one.
 */

export interface Problem {
  /** One sentence: what is wrong. */
  readonly what: string;
  /** The file, tensor, option or address it is about. */
  readonly where?: string | undefined;
  readonly expected?: string | undefined;
  readonly found?: string | undefined;
  /** What the reader can do about it. */
  readonly fix?: string | undefined;
  readonly cause?: unknown;
}

/** Exit codes of the command line. */
export const ExitCode = {
  ok: 0,
  defect: 1,
  usage: 2,
  input: 3,
  system: 4,
  verification: 5,
  // Of a signal: 128 and its number.
  hungUp: 129,
  interrupted: 130,
  terminated: 143,
} as const;
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

export class LapidaryError extends Error {
  override readonly name = 'LapidaryError';
  readonly problem: Problem;
  readonly exitCode: ExitCode;

  constructor(problem: Problem, exitCode: ExitCode = ExitCode.input) {
    super(describe(problem), { cause: problem.cause });
    this.problem = problem;
    this.exitCode = exitCode;
  }
}

/** The same error with a place before the one that it names; anything else as it is. */
export function located(where: string, error: unknown): unknown {
  if (!(error instanceof LapidaryError)) return error;
  const { where: inner, ...problem } = error.problem;
  return new LapidaryError({ ...problem, where: inner ? `${where}, ${inner}` : where }, error.exitCode);
}

function describe(problem: Problem): string {
  const lines = [problem.where ? `${problem.where}: ${problem.what}` : problem.what];
  if (problem.expected !== undefined) lines.push(`  expected: ${problem.expected}`);
  if (problem.found !== undefined) lines.push(`  found: ${problem.found}`);
  if (problem.fix !== undefined) lines.push(`  to do: ${problem.fix}`);
  return lines.join('\n');
}
