import { mkdtempSync, renameSync, rmSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { LapidaryError } from '../base/errors.ts';
import { fileHash } from './hash.ts';
import { checkUnchanged, identify, readRange, readTensor, withKnownFile } from './range.ts';

const root = mkdtempSync(join(tmpdir(), 'lapidary-range-'));
afterAll(() => rmSync(root, { recursive: true }));

let count = 0;
function written(text: string): string {
  const path = join(root, `${count++}`);
  writeFileSync(path, text);
  // Long ago, so that whatever is written now has another time.
  utimesSync(path, 1e9, 1e9);
  return path;
}

describe('a file that was open before', () => {
  it('is read while it is the same, also when it was touched by readers alone', () => {
    const known = identify(written('weights'));
    const read = () =>
      withKnownFile(known, 'weights', (file) => new TextDecoder().decode(readRange(file, 2, 3, known.path)));
    expect([read(), read()]).toEqual(['igh', 'igh']);
    expect(() => checkUnchanged(known)).not.toThrow();
  });

  const other = (path: string) => {
    const beside = written('WEIGHTS');
    utimesSync(beside, 1e9, 1e9 + 1);
    renameSync(beside, path);
  };
  it.each<[string, (path: string) => void, RegExp]>([
    ['cut', (path) => truncateSync(path, 3), /expected: 7 bytes of 2001-09-09.*\n {2}found: 3 bytes/],
    ['longer', (path) => writeFileSync(path, 'more weights'), /found: 12 bytes/],
    ['written over with as many bytes', (path) => writeFileSync(path, 'WEIGHTS'), /found: written again/],
    ['replaced by another of its size', other, /found: written again, 2001-09-09T01:46:41/],
    ['gone', (path) => rmSync(path), /found: no file/],
  ])('is refused by name when it is %s', (_, change, says) => {
    const known = identify(written('weights'));
    change(known.path);
    for (const use of [() => checkUnchanged(known), () => fileHash(known)]) {
      expect(use).toThrow(LapidaryError);
      expect(use).toThrow(says);
      expect(use).toThrow(known.path);
      expect(use).toThrow(/to do: wait until nothing writes to it/);
    }
  });

  it('is refused when it changes while it is read', () => {
    const known = identify(written('weights'));
    const read = () =>
      withKnownFile(known, 'weights', (file) => {
        const bytes = readRange(file, 0, 7, known.path);
        writeFileSync(known.path, 'WEIGHTS');
        return bytes;
      });
    expect(read).toThrow(/changed while it was in use/);
  });
});

it('reads a tensor into the room it is given, where that is long enough', () => {
  const range = { file: identify(written('weights')), name: 'w', start: 2, length: 3 };
  const [room, small] = [new Uint8Array(4), new Uint8Array(2)];
  const [inRoom, fresh] = [readTensor(range, room), readTensor(range, small)];
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  expect([text(inRoom), text(fresh), text(room), text(small)]).toEqual(['igh', 'igh', 'igh\0', '\0\0']);
  expect(inRoom.buffer).toBe(room.buffer);
});
