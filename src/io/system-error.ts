/** What a system refuses, in words. */

import { ExitCode, LapidaryError } from '../base/errors.ts';

/**
 * What the system says no to, as an error for people; anything else stays as it is.
 * @param where the file or folder that was to be read or written
 */
export function systemError(cause: unknown, where: string): unknown {
  const code = (cause as NodeJS.ErrnoException | undefined)?.code;
  const known: Record<string, [what: string, fix: string]> = {
    ENOSPC: ['the disk is full', 'make room, or write to another disk'],
    EDQUOT: ['your share of the disk is used up', 'make room, or write to another disk'],
    EFBIG: [
      'the file grew beyond what this disk or this session allows',
      'write to another disk, or raise ulimit -f',
    ],
    EACCES: ['no permission', 'choose another place, or change its permissions'],
    EPERM: ['no permission', 'choose another place, or change its permissions'],
    EROFS: ['the disk is read-only', 'choose a place on another disk'],
    ENOENT: ['no such file or folder', 'check the path'],
    EISDIR: ['a folder stands where a file is expected', 'check the path'],
    ENOTDIR: ['a part of the path is a file', 'choose another place'],
    ENAMETOOLONG: ['a name is too long', 'choose a shorter one'],
    EEXIST: ['a file is in the way', 'choose another place'],
    EIO: ['the disk failed', 'check the disk'],
    EMFILE: ['too many files are open', 'raise ulimit -n'],
  };
  if (cause instanceof LapidaryError || code === undefined || !Object.hasOwn(known, code)) return cause;
  const [what, fix] = known[code];
  return new LapidaryError({ what, where, found: code, fix, cause }, ExitCode.system);
}

/** @throws what `action` does, as `systemError` has it */
export function attempt<T>(where: string, action: () => T): T {
  try {
    return action();
  } catch (cause) {
    throw systemError(cause, where);
  }
}
