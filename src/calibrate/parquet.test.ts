import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parquetWriteFile } from 'hyparquet-writer';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { LapidaryError } from '../base/errors.ts';
import { parquetRows, readParquet } from './parquet.ts';

const folder = mkdtempSync(join(tmpdir(), 'lapidary-parquet-'));
const path = (name: string) => join(folder, name);
afterAll(() => rmSync(folder, { recursive: true }));
const variables = ['LAPIDARY_LIBRARY_SECONDS', 'LAPIDARY_LIBRARY_MIB'];
afterEach(() => variables.forEach((name) => delete process.env[name]));

const mebi = 2 ** 20;
/** Texts that all differ, about 1 KiB each. */
const text = (index: number) => `${index}: ${'Tim and Lily went to the park. '.repeat(32)}`;
const rows = 40_000;

beforeAll(() => {
  const column = (name: string, data: unknown[]) => ({ name, data, type: 'STRING' as const });
  const all = Array.from({ length: rows }, (_, index) => text(index));
  parquetWriteFile({
    filename: path('large.parquet'),
    columnData: [column('text', all)],
    rowGroupSize: rows,
  });
  parquetWriteFile({
    filename: path('groups.parquet'),
    columnData: [column('text', all.slice(0, 4000))],
    rowGroupSize: 1000,
  });
  // A text that stands once in the file.
  const same = new Array(20_000).fill(text(0));
  parquetWriteFile({ filename: path('same.parquet'), columnData: [column('text', same)] });
  parquetWriteFile({
    filename: path('numbers.parquet'),
    columnData: [
      { name: 'label', data: [0n, 1n, 2n ** 60n], type: 'INT64' },
      { name: 'when', data: [new Date(0), null, null], type: 'TIMESTAMP', nullable: true },
    ],
  });
});

const read = (name: string, limit = Number.POSITIVE_INFINITY, largest = 1024 * mebi) =>
  readParquet(path(name), 'text', limit, largest);

describe('a large Parquet file', () => {
  it('is read whole, in pieces, or as far as is asked', () => {
    const documents = read('large.parquet');
    expect(documents).toHaveLength(rows);
    for (const index of [0, 17_000, rows - 1]) expect(documents[index]).toBe(text(index));
    expect(read('groups.parquet', 1500)).toHaveLength(1500);
  });

  it('is refused by what it unpacks to, before or after it is unpacked', () => {
    expect(() => read('large.parquet', 10, 8 * mebi)).toThrow(
      /large\.parquet: .*too large.*\n.*8388608 bytes unpacked/,
    );
    expect(() => read('groups.parquet', 4000, 2 * mebi)).toThrow('too large');
    expect(read('groups.parquet', 900, 2 * mebi)).toHaveLength(900);
    expect(() => read('same.parquet', Number.POSITIVE_INFINITY, 8 * mebi)).toThrow('too large');
  });

  it('is given up where its reader takes more memory or time than it is given', () => {
    process.env.LAPIDARY_LIBRARY_MIB = '24';
    const refused = () => read('large.parquet');
    expect(refused).toThrow(LapidaryError);
    expect(refused).toThrow(/large\.parquet: .*more memory.*\n.*at most 24 MiB.*\n.*LAPIDARY_LIBRARY_MIB=96/);
    delete process.env.LAPIDARY_LIBRARY_MIB;
    process.env.LAPIDARY_LIBRARY_SECONDS = '0.001';
    expect(refused).toThrow(/large\.parquet: .*more time.*\n.*\n.*LAPIDARY_LIBRARY_SECONDS=1 /);
    delete process.env.LAPIDARY_LIBRARY_SECONDS;
    expect(read('large.parquet', 3)).toHaveLength(3);
  });
});

it('whole numbers of 64 bits are numbers, times are text', () => {
  const column = (name: string) =>
    [...parquetRows(path('numbers.parquet'), () => name, mebi)].map((row) => row[name]);
  expect(column('label')).toEqual([0, 1, String(2n ** 60n)]);
  expect(column('when')).toEqual(['1970-01-01T00:00:00.000Z', null, null]);
});
