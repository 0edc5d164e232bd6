import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { readDocuments } from './data.ts';

/** Small texts that failed once; see the README there. */
const cases = '../shared/cases/texts';

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
/** Columns id and messages of two rows, as pyarrow 26.0.1 writes lists of structures. */
const chatParquet =
  'UEFSMRUAFSwVLCwVBBUAFQYVBhwAAAACAAAABAEBAAAAAAAAAAIAAAAAAAAAFQAVbBVsLBUIFQAVBhUGHAAAAAIAAAADCgIAAAAIBAQAAAB1c2VyCQAAAGFzc2lzdGFudAQAAAB1c2VyCQAAAGFzc2lzdGFudBUAFWIVYiwVCBUAFQYVBhwAAAACAAAAAwoCAAAACAQDAAAASGkuBgAAAEhlbGxvLgQAAABCeWUuCAAAAFNlZSB5b3UuFQQZfDUAGAZzY2hlbWEVBAAVBCUCGAJpZAA1AhgIbWVzc2FnZXMVAhUGTDwAAAA1BBgEbGlzdBUCADUCGAdlbGVtZW50FQQAFQwlAhgEcm9sZSUATBwAAAAVDCUCGAdjb250ZW50JQBMHAAAABYEGRwZPCYAHBUEGSUGABkYAmlkFQAWBBZSFlImCEkcFQAVABUCADwpBhkmAAQAAAAmABwVDBklBgAZSAhtZXNzYWdlcwRsaXN0B2VsZW1lbnQEcm9sZRUAFggWkgEWkgEmWkkcFQAVABUCADwWNBkmBAQZVgAAAAAIAAAAJgAcFQwZJQYAGUgIbWVzc2FnZXMEbGlzdAdlbGVtZW50B2NvbnRlbnQVABYIFogBFogBJuwBSRwVABUAFQIAPBYqGSYEBBlWAAAAAAgAAAAW7AIWBCYIFuwCACggcGFycXVldC1jcHAtYXJyb3cgdmVyc2lvbiAyNi4wLjEZPBwAABwAABwAAABzAQAAUEFSMQ==';
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
      ['array', '[{"text":"a"},{"story":"b"}]', 'row 2: there is no field "text"'],
      ['alone', 'true', 'line 1: this row is neither an object nor a text'],
      ['open', '[{"text":"a"},', 'line 1: this line is not JSON'],
      ['number', '{"text":3}', 'line 1: "text" does not hold text'],
      ['bytes', Uint8Array.of(0x7b, 0xff, 0x7d), 'line 1: this is not UTF-8'],
    ];
    for (const [name, content, message] of bad) {
      await expect(readDocuments(file(`${name}.jsonl`, content))).rejects.toThrow(message);
    }
  });
});

describe('JSON arrays', () => {
  it('of rows or of texts are read like lines, whatever the file is called', async () => {
    const rows = ' [\n {"text": " one"},\n {"text": null},\n {"text": "two"}\n]';
    for (const name of ['array.json', 'array.jsonl']) {
      expect(await readDocuments(file(name, rows))).toEqual(['one', 'two']);
      expect(await readDocuments(file(name, rows), { limit: 1 })).toEqual(['one']);
    }
    expect(await readDocuments(file('texts.json', '["one", "", "two"]'))).toEqual(['one', 'two']);
  });
});

describe('tables', () => {
  const rows = [
    ['id', 'text', 'label'],
    ['0', 'Once, "upon"\na time.', 'a'],
    ['1', '', 'b'],
    ['2', 'Grün', 'c'],
  ];
  const quoted = (separator: string, end = '\n') =>
    rows
      .map((row) =>
        row
          .map((cell) => (/[",;\t\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell))
          .join(separator),
      )
      .join(end);
  const texts = ['Once, "upon"\na time.', 'Grün'];

  it('with commas, semicolons or tabs give the column that their first line names', async () => {
    expect(await readDocuments(file('table.csv', quoted(',')))).toEqual(texts);
    expect(await readDocuments(file('table.csv', `\uFEFF${quoted(';', '\r\n')}\r\n`))).toEqual(texts);
    expect(await readDocuments(file('table.tsv', quoted('\t')), { limit: 1 })).toEqual([texts[0]]);
    expect(await readDocuments(file('table.csv', quoted(',')), { field: 'label' })).toEqual(['a', 'b', 'c']);
  });

  it('without that column, with a row of another length, or not in UTF-8 are refused', async () => {
    await expect(readDocuments(file('names.csv', 'a,b\n1,2'))).rejects.toThrow(/no field "text"\n.*"a", "b"/);
    await expect(readDocuments(file('rows.csv', 'id,text\n1'))).rejects.toThrow(
      /not a table.*\n(.*\n)*.*line 2/,
    );
    const latin = Uint8Array.of(...Buffer.from('text\n'), 0xfc);
    await expect(readDocuments(file('latin.csv', latin))).rejects.toThrow('not UTF-8');
  });
});

describe('conversations', () => {
  const [user, assistant] = [
    { role: 'user', content: 'Hi.' },
    { role: 'assistant', content: 'Hello.' },
  ];

  it('are read by the names that data has for them, contents in parts joined', async () => {
    const lines = [
      { messages: [user, assistant] },
      {
        conversations: [
          { from: 'human', value: 'Hi.' },
          { from: 'gpt', value: 'Hello.' },
        ],
      },
      {
        messages: [
          {
            role: 'user',
            content: [
              { type: 'text', text: 'Hi' },
              { type: 'text', text: '.' },
            ],
          },
          assistant,
        ],
      },
    ];
    const path = file('chat.jsonl', lines.map((line) => JSON.stringify(line)).join('\n'));
    expect(await readDocuments(path)).toEqual([0, 1, 2].map(() => [user, assistant]));
    const named = file('named.json', JSON.stringify([{ text: 'x', turns: [user] }]));
    expect(await readDocuments(named, { field: 'turns' })).toEqual([[user]]);
  });

  it('stand in Parquet, too', async () => {
    const path = file('chat.parquet', bytesOf(chatParquet));
    expect(await readDocuments(path, { limit: 1 })).toEqual([[user, assistant]]);
    expect(await readDocuments(path)).toHaveLength(2);
  });

  it('that are none are refused with their place', async () => {
    const path = file('none.jsonl', '{"messages":[{"role":"user","content":"a"},{"say":"b"}]}');
    await expect(readDocuments(path)).rejects.toThrow(/line 1, "messages", message 2: .*no message/);
  });
});

describe.skipIf(!existsSync(cases))('the small texts of ../shared (skipped where it is not there)', () => {
  it('say the same as an array, as a table, and as lines', async () => {
    const lines = await readDocuments(`${cases}/plain.jsonl`);
    expect(lines.length).toBeGreaterThan(4);
    expect(await readDocuments(`${cases}/array.json`)).toEqual(lines);
    expect(await readDocuments(`${cases}/table.csv`)).toEqual(lines);
    const chats = await readDocuments(`${cases}/messages.jsonl`);
    expect(chats.map((chat) => (chat.at(-1) as { content: string }).content.trim())).toEqual(lines);
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
