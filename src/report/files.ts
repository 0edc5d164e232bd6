/** What a run leaves beside the model for people and programs: its recipe and report, one of each for every type in the folder. */

import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

/** @param type where the file is one of several types in the folder */
export const recipeName = (type?: string): string => `recipe${ending(type)}.yaml`;
export const reportName = (type?: string): string => `report${ending(type)}.json`;

const ending = (type: string | undefined) => (type === undefined ? '' : `-${type}`);

/** Paths of the recipes of a result; none where the folder is no result. */
export const recipesIn = (folder: string): string[] => namesIn(folder, /^recipe(-\w+)?\.yaml$/);

/** Paths of the reports of a result; none where the folder is no result. */
export const reportsIn = (folder: string): string[] => namesIn(folder, /^report(-\w+)?\.json$/);

/** The one alone where there is such a one: what else stands there is not of this result. */
function namesIn(folder: string, named: RegExp): string[] {
  if (!existsSync(folder)) return [];
  const names = readdirSync(folder).filter((name) => named.test(name));
  const alone = names.filter((name) => !name.includes('-'));
  return (alone.length > 0 ? alone : names.sort()).map((name) => join(folder, name));
}
