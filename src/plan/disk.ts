/** What a run writes, and whether there is room for it. */

import { existsSync, readdirSync, statfsSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { ExitCode, LapidaryError } from '../base/errors.ts';
import { journalFolder } from '../io/journal.ts';
import { measuresLevels } from '../export/accuracy.ts';
import type { Facts, Part } from './facts.ts';
import { total } from '../base/total.ts';
import { positionBytes } from './facts.ts';

export interface DiskPart extends Part {
  /** Whether it is removed when it was measured. */
  readonly passes?: boolean | undefined;
}

export interface DiskPlan {
  readonly parts: readonly DiskPart[];
  /** Most that stands there at once. */
  readonly bytes: number;
  /** Undefined where the file system does not say. */
  readonly free?: number | undefined;
  /** The folder whose file system is written to; it exists. */
  readonly where: string;
}

/** Report, card and what else is small. */
const smallFiles = 4 * 2 ** 20;

export function planDisk(facts: Facts): DiskPlan {
  const { matrices, model, out, speed, recipe, texts } = facts;
  const vectors = total([...model.vectors.values()].map(({ byteLength }) => byteLength));
  const files = total([...model.files.values()].map((read) => read().byteLength));
  const settings = files + 2 * vectors + positionBytes(facts) + smallFiles;
  const result = total(matrices.map(({ inFile }) => inFile)) + settings;
  const twice = texts.evaluation !== undefined && measuresLevels(recipe.export);
  const all: DiskPart[] = [
    { what: 'the result', bytes: result },
    // Where the original comes later, it has room enough.
    ...(twice && !speed
      ? [{ what: 'the result with other products, while both are measured', bytes: result, passes: true }]
      : []),
    ...(speed
      ? [
          {
            what: 'the original, while its speed is measured',
            bytes: total(matrices.map(({ inPlainFile }) => inPlainFile)) + settings,
            passes: true,
          },
        ]
      : []),
    {
      what: 'what is done, kept until the end',
      // An earlier run may have kept some already.
      bytes: Math.max(
        0,
        total(matrices.map(({ assigned, after }) => (assigned ? after : 0))) - bytesIn(journalFolder(out)),
      ),
    },
  ];
  const parts = all.map((part) => ({ ...part, bytes: Math.round(part.bytes) }));
  const where = existing(resolve(out));
  return { parts, bytes: total(parts.map(({ bytes }) => bytes)), free: freeBytes(where), where };
}

function bytesIn(folder: string): number {
  if (!existsSync(folder) || !statSync(folder).isDirectory()) return 0;
  return total(readdirSync(folder).map((name) => statSync(join(folder, name)).size));
}

const existing = (path: string): string =>
  existsSync(path) || dirname(path) === path ? path : existing(dirname(path));

/** Undefined where a file system says nothing of use: some report no blocks at all. */
function freeBytes(folder: string): number | undefined {
  try {
    const { bavail, bsize, blocks } = statfsSync(folder);
    return blocks > 0 ? bavail * bsize : undefined;
  } catch {
    return undefined;
  }
}

/**
 * @param plans of runs that write to one folder, one after the other
 * @throws LapidaryError (system) where the disk has less room than they need
 */
export function checkDisk(plans: readonly { readonly disk: DiskPlan }[]): void {
  const disks = plans.map(({ disk }) => disk);
  const { free, where } = disks[0]!;
  const bytes = together(disks);
  if (free === undefined || bytes <= free) return;
  const megabytes = (value: number) => `${Math.ceil(value / 1e6)} MB`;
  const parts = disks.flatMap((disk) => disk.parts);
  throw new LapidaryError(
    {
      what: 'the disk has not enough room for this run',
      where,
      expected: `${megabytes(bytes)}: ${parts.map((part) => `${part.what} ${megabytes(part.bytes)}`).join('; ')}`,
      found: `${megabytes(free)} free`,
      fix: 'make room, or choose a folder on another disk',
    },
    ExitCode.system,
  );
}

/** What one run removes again is room for the next. */
function together(disks: readonly DiskPlan[]): number {
  const passing = disks.map(({ parts }) => total(parts.map(({ bytes, passes }) => (passes ? bytes : 0))));
  return total(disks.map(({ bytes }) => bytes)) - total(passing) + Math.max(...passing);
}
