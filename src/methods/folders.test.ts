import { readdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { families } from './index.ts';

const here = new URL('./', import.meta.url);
const filesOf = (folder: string) =>
  readdirSync(new URL(`${folder}/`, here)).filter((name) => /(?<!\.test)\.ts$/.test(name));

describe('the folder of every family', () => {
  it('is in the list, by its name', () => {
    const folders = readdirSync(here, { withFileTypes: true }).filter((entry) => entry.isDirectory());
    expect(folders.map(({ name }) => name).toSorted()).toEqual(families.map(({ name }) => name).toSorted());
  });

  it.each(families.map((family) => [family.name, family] as const))(
    '%s: holds methods alone, one a file, all of them in its index',
    async (folder, { methods }) => {
      const found: string[] = [];
      for (const file of filesOf(folder).filter((name) => name !== 'index.ts')) {
        const exported = Object.values((await import(new URL(`${folder}/${file}`, here).href)) as object);
        const own = methods.filter((method) => exported.includes(method));
        expect(own.map(({ name }) => name)).toEqual([file.replace(/\.ts$/, '')]);
        found.push(...own.map(({ name }) => name));
      }
      expect(found.toSorted()).toEqual(methods.map(({ name }) => name).toSorted());
    },
  );
});
