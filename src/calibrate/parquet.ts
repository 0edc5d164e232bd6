/** Documents out of Parquet files, row group by row group, over hyparquet. */

import * as zlib from 'node:zlib';
import type { Compressors, FileMetaData } from 'hyparquet';
import { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects, parquetSchema } from 'hyparquet';
import { LapidaryError } from '../base/errors.ts';
import type { Document } from './documents.ts';
import { chosenField, documentOf, isFull } from './documents.ts';

/** Reads row groups until there are enough documents. */
export async function readParquet(
  path: string,
  field: string | undefined,
  limit: number,
): Promise<Document[]> {
  const documents: Document[] = [];
  const file = await asyncBufferFromFile(path);
  const metadata = await orInvalid(path, () => metadataOf(file));
  const columns = parquetSchema(metadata).children.map((child) => child.element.name);
  const column = chosenField(field, columns, path);
  let rowStart = 0;
  for (const group of metadata.row_groups) {
    if (documents.length >= limit) break;
    const rowEnd = rowStart + Number(group.num_rows);
    const rows = await orInvalid(path, () =>
      parquetReadObjects({ file, metadata, columns: [column], rowStart, rowEnd, compressors }),
    );
    rows.forEach((row, index) => {
      const document = documentOf(row, column, `${path}, row ${rowStart + index}`);
      if (isFull(document)) documents.push(document);
    });
    rowStart = rowEnd;
  }
  return documents;
}

async function metadataOf(file: Awaited<ReturnType<typeof asyncBufferFromFile>>): Promise<FileMetaData> {
  if (file.byteLength < 12) throw new Error(`${file.byteLength} bytes are too few`);
  return await parquetMetadataAsync(file);
}

/** Parquet's other codecs, as far as this Node has them: Zstandard since 22.15. */
const { zstdDecompressSync } = zlib as { readonly zstdDecompressSync?: (input: Uint8Array) => Uint8Array };
const compressors: Compressors = {
  GZIP: (input, length) => zlib.gunzipSync(input, { maxOutputLength: Math.max(1, length) }),
  BROTLI: (input, length) => zlib.brotliDecompressSync(input, { maxOutputLength: Math.max(1, length) }),
  ...(zstdDecompressSync && { ZSTD: (input: Uint8Array) => zstdDecompressSync(input) }),
};

async function orInvalid<T>(path: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (cause) {
    throw new LapidaryError({
      what: 'this is not a Parquet file that can be read',
      where: path,
      found: String((cause as Error).message),
      fix: 'write it again with SNAPPY or GZIP compression, or use JSON lines',
      cause,
    });
  }
}
