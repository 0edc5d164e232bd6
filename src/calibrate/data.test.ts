import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { readDocuments } from './data.ts';

const folder = mkdtempSync(join(tmpdir(), 'lapidary-data-'));
afterAll(() => rmSync(folder, { recursive: true }));

function file(name: string, content: string | Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

/** Columns id and text of four rows in two row groups, one text null and one blank; written with hyparquet-writer. */
const parquet = {
  snappy:
    'UEFSMRUGFRQVGFwVBBUAFQQVABUEFQAAAAMDCBwBAAAAAgAAABUGFTAVNFwVBBUCFQQVABUEFQAAAAMBFlQSAAAAT25lIGRheSwgTGlseSByYW4uFQYVFBUYXBUEFQAVBBUAFQQVAAAAAwMIHAMAAAAEAAAAFQYVQBVEXBUEFQAVBBUAFQQVAAAAAwMedAIAAAAgIBQAAABHcsO8biBpc3QgZGllIFdpZXNlLhUEGTxIBHJvb3QVBAAVAiUCGAJpZAAVDCUCGAR0ZXh0JQAAFggZLBksJggcFQIZFQAZGAJpZBUCFgQWPhZCJgg8NgAoBAIAAAAYBAEAAAAAGRwVBhUAFQIAAAAmShwVDBkVABkYBHRleHQVAhYEFloWXiZKPDYCKBBPbmUgZGF5LCBMaWx5IHJiGBBPbmUgZGF5LCBMaWx5IHJhEhIAGRwVBhUAFQIAAAAWmAEWBDagAQAZLCaoARwVAhkVABkYAmlkFQIWBBY+FkImqAE8NgAoBAQAAAAYBAMAAAAAGRwVBhUAFQIAAAAm6gEcFQwZFQAZGAR0ZXh0FQIWBBZqFm4m6gE8NgAoEEdyw7xuIGlzdCBkaWUgV2oYAiAgEgAZHBUGFQAVAgAAABaoARYENrABACgJaHlwYXJxdWV0GSwcAAAcAAAARgEAAFBBUjE=',
  gzip: 'UEFSMRUGFRQVPFwVBBUAFQQVABUEFQAAAAMDH4sIAAAAAAAAA2NkYGBgYmBgAAB8F4EDCAAAABUGFTAVWFwVBBUCFQQVABUEFQAAAAMBH4sIAAAAAAAAAxNiYGDwz0tVSEms1FHwycypVChKzNMDAAsdP18WAAAAFQYVFBU8XBUEFQAVBBUAFQQVAAAAAwMfiwgAAAAAAAADY2ZgYGBhYGAAAN1Pz2QIAAAAFQYVQBVoXBUEFQAVBBUAFQQVAAAAAwMfiwgAAAAAAAADY2JgYFBQEGFgYHAvOrwnTyGzuEQhJTNVITwztThVDwBIfzAQHgAAABUEGTxIBHJvb3QVBAAVAiUCGAJpZAAVDCUCGAR0ZXh0JQAAFggZLBksJggcFQIZFQAZGAJpZBUEFgQWPhZmJgg8NgAoBAIAAAAYBAEAAAAAGRwVBhUAFQIAAAAmbhwVDBkVABkYBHRleHQVBBYEFloWggEmbjw2AigQT25lIGRheSwgTGlseSByYhgQT25lIGRheSwgTGlseSByYRISABkcFQYVABUCAAAAFpgBFgQ26AEAGSwm8AEcFQIZFQAZGAJpZBUEFgQWPhZmJvABPDYAKAQEAAAAGAQDAAAAABkcFQYVABUCAAAAJtYCHBUMGRUAGRgEdGV4dBUEFgQWahaSASbWAjw2ACgQR3LDvG4gaXN0IGRpZSBXahgCICASABkcFQYVABUCAAAAFqgBFgQ2+AEAKAloeXBhcnF1ZXQZLBwAABwAAABIAQAAUEFSMQ==',
};
const bytesOf = (base64: string) => new Uint8Array(Buffer.from(base64, 'base64'));

describe('text files', () => {
  it('are one document, or as many as the separator makes, trimmed and without blank ones', async () => {
    const path = file('plain.txt', ' a b \n###\n\n###\nc');
    expect(await readDocuments(path)).toEqual(['a b \n###\n\n###\nc']);
    expect(await readDocuments(path, { separator: '###' })).toEqual(['a b', 'c']);
    expect(await readDocuments(path, { separator: '###', limit: 1 })).toEqual(['a b']);
  });

  it('that are empty, blank, missing or a folder are refused', async () => {
    await expect(readDocuments(file('empty.txt', ''))).rejects.toThrow('no text');
    await expect(readDocuments(file('blank.txt', ' \n\n '))).rejects.toThrow('no text');
    await expect(readDocuments(join(folder, 'nowhere.txt'))).rejects.toThrow(/cannot read.*\n.*ENOENT/);
    await expect(readDocuments(folder)).rejects.toThrow('not a file');
  });

  it('that are not UTF-8 are refused', async () => {
    await expect(readDocuments(file('latin.txt', Uint8Array.of(0x67, 0xfc, 0x6e)))).rejects.toThrow(
      'not UTF-8',
    );
  });
});

describe('JSON lines', () => {
  it('give one field, skip blank lines, nulls and blank texts', async () => {
    const path = file(
      'rows.jsonl',
      '{"text":"one"}\r\n\n{"text":null}\n{"text":" "}\n{"text":"Grün","id":2}',
    );
    expect(await readDocuments(path)).toEqual(['one', 'Grün']);
    expect(await readDocuments(path, { limit: 1 })).toEqual(['one']);
  });

  it('say which fields there are, and in which line, when the asked one is missing', async () => {
    const path = file('other.jsonl', '{"text":"a"}\n{"story":"b","id":1}');
    await expect(readDocuments(path)).rejects.toThrow(/line 2: there is no field "text"\n.*"story", "id"/);
    await expect(readDocuments(path, { field: '__proto__' })).rejects.toThrow('no field "__proto__"');
  });

  it('with a line that is no JSON, no object, no text or no UTF-8 are refused with its number', async () => {
    const bad: [string, string | Uint8Array, string][] = [
      ['cut', '{"text":"a"}\n{"text":', 'line 2: this line is not JSON'],
      ['list', '["a"]', 'line 1: this line is not an object'],
      ['number', '{"text":3}', 'line 1: "text" does not hold text'],
      ['bytes', Uint8Array.of(0x7b, 0xff, 0x7d), 'line 1: this is not UTF-8'],
    ];
    for (const [name, content, message] of bad) {
      await expect(readDocuments(file(`${name}.jsonl`, content))).rejects.toThrow(message);
    }
  });
});

describe('Parquet', () => {
  it.each(Object.keys(parquet) as (keyof typeof parquet)[])(
    'compressed with %s gives one column',
    async (codec) => {
      const path = file(`${codec}.parquet`, bytesOf(parquet[codec]));
      expect(await readDocuments(path)).toEqual(['One day, Lily ran.', 'Grün ist die Wiese.']);
      expect(await readDocuments(path, { limit: 1 })).toEqual(['One day, Lily ran.']);
    },
  );

  it('says which columns there are, and when the asked one is no text', async () => {
    const path = file('columns.parquet', bytesOf(parquet.snappy));
    await expect(readDocuments(path, { field: 'story' })).rejects.toThrow(/no field "story"\n.*"id", "text"/);
    await expect(readDocuments(path, { field: 'id' })).rejects.toThrow('"id" does not hold text');
  });

  it('truncated or mutated is refused or read, never a crash', async () => {
    const good = bytesOf(parquet.gzip);
    const attempts: Uint8Array[] = [good.slice(0, 7), good.slice(0, 300), new Uint8Array(20)];
    for (let position = 4; position < good.length; position += 7) {
      const mutated = good.slice();
      mutated[position] ^= 0x5a;
      attempts.push(mutated);
    }
    for (const bytes of attempts) {
      const outcome = await readDocuments(file('mutated.parquet', bytes)).catch((error: Error) => error.name);
      expect(Array.isArray(outcome) || outcome === 'LapidaryError').toBe(true);
    }
  });
});
