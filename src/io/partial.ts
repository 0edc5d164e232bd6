/**
 * Names of what is not whole yet: hidden, beside the target and so on the same file system, and with the process that
 * writes it. What a killed process left is known by that, and so is whether somebody writes the same target now.
 */

import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';

/** "partial" is on its way to the target's name, "replaced" was there before and waits until the new one is. */
export type Kind = 'partial' | 'replaced';

export interface Leftover {
  readonly path: string;
  readonly pid: number;
  /** Whether its process is still at work; of this process's id, only where the system can tell that it is this one. */
  readonly alive: boolean;
}

/** A name that nothing has. */
export function temporaryName(target: string, kind: Kind): string {
  const owner = `${process.pid}-${bornAt(process.pid) ?? 0}-${randomBytes(4).toString('hex')}`;
  return join(dirname(target), `.${basename(target)}.${owner}.${kind}`);
}

/** What there is of a target under temporary names; nothing where the folder cannot be read. */
export function leftovers(target: string, kind: Kind): readonly Leftover[] {
  const start = `.${basename(target)}.`;
  const found = (name: string): Leftover[] => {
    const owner = /^(\d+)-(\d+)-[0-9a-f]{8}\.(\w+)$/.exec(name.slice(start.length));
    if (!name.startsWith(start) || owner?.[3] !== kind) return [];
    const [pid, born] = [Number(owner[1]), Number(owner[2])];
    return [{ path: join(dirname(target), name), pid, alive: isAlive(pid, born) }];
  };
  try {
    return readdirSync(dirname(target)).flatMap(found);
  } catch {
    return [];
  }
}

function isAlive(pid: number, born: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (cause) {
    // Somebody else's process may not be signalled.
    if ((cause as NodeJS.ErrnoException).code !== 'EPERM') return false;
  }
  const now = bornAt(pid);
  if (now === undefined || born === 0) return pid !== process.pid;
  return now === born;
}

/**
 * When a process began, in ticks since the machine did; ids are given out again, the pair is not. Undefined where the
 * system does not say (it does in Linux's /proc, field 22 of stat); -1 of one that has ended and waits to be collected.
 */
function bornAt(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The second field is a name in parentheses, which may hold anything.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' || fields[0] === 'X' ? -1 : Number(fields[19]);
  } catch {
    return undefined;
  }
}
