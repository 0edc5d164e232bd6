/**
 * hyparquet at work, in a process that can be ended (base/guard/child.js). Plain JavaScript, because that process starts
 * from the file itself, in the source tree and in the built package alike.
 */

import * as zlib from 'node:zlib';
import { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects, parquetSchema } from 'hyparquet';
import { compressors as others } from 'hyparquet-compressors';

/** Values are handed out up to so many bytes at a time. */
const bytesAtOnce = 2 ** 24;
/** No page unpacks to more: sizes stand in the file, which may lie. */
const largestPage = 2 ** 30;

/** Node's own are faster, where it has them: Zstandard since 22.15. */
const { zstdDecompressSync } = /** @type {any} */ (zlib);
const unpack = {
  ...others,
  GZIP: (/** @type {Uint8Array} */ input, /** @type {number} */ length) =>
    zlib.gunzipSync(input, { maxOutputLength: Math.max(1, length) }),
  BROTLI: (/** @type {Uint8Array} */ input, /** @type {number} */ length) =>
    zlib.brotliDecompressSync(input, { maxOutputLength: Math.max(1, length) }),
  ...(zstdDecompressSync && {
    ZSTD: (/** @type {Uint8Array} */ input, /** @type {number} */ length) =>
      zstdDecompressSync(input, { maxOutputLength: Math.max(1, length) }),
  }),
};
const compressors = Object.fromEntries(
  Object.entries(unpack).map(([name, codec]) => [
    name,
    (/** @type {Uint8Array} */ input, /** @type {number} */ length) => {
      if (length > largestPage) throw new Error(`a page of ${length} bytes`);
      return codec(input, length);
    },
  ]),
);

/**
 * @typedef {{
 *   file: Awaited<ReturnType<typeof asyncBufferFromFile>>,
 *   metadata: Awaited<ReturnType<typeof parquetMetadataAsync>>,
 *   group?: { index: number, field: string, values: unknown[] },
 * }} Opened
 */

export const jobs = {
  /**
   * Opens a file; answers with its columns and its row groups: rows, and the bytes that each column unpacks to.
   * @param {{ path: string }} value
   */
  async open({ path }) {
    const file = await asyncBufferFromFile(path);
    if (file.byteLength < 12) throw new Error(`${file.byteLength} bytes are too few`);
    const metadata = await parquetMetadataAsync(file);
    return {
      keep: { file, metadata },
      answer: {
        columns: parquetSchema(metadata).children.map(({ element }) => element.name),
        groups: metadata.row_groups.map((group) => ({
          rows: Number(group.num_rows),
          bytes: group.columns.map(({ meta_data: data }) => ({
            column: data?.path_in_schema[0],
            bytes: Number(data?.total_uncompressed_size ?? 0),
          })),
        })),
      },
    };
  },

  /**
   * Values of a column in a row group, from a row on, some at a time: plain ones, as JSON has them.
   * @param {{ index: number, field: string, rowStart: number, rows: number, from: number }} value
   * @param {Opened} opened
   */
  async read({ index, field, rowStart, rows, from }, opened) {
    const { file, metadata } = opened;
    if (opened.group?.index !== index || opened.group.field !== field) {
      const rowEnd = rowStart + rows;
      const options = { file, metadata, columns: [field], rowStart, rowEnd, compressors };
      const found = await parquetReadObjects(options);
      opened.group = { index, field, values: found.map((row) => row[field]) };
    }
    const { values } = opened.group;
    const some = [];
    let bytes = 0;
    while (from + some.length < values.length && bytes < bytesAtOnce) {
      const value = plain(values[from + some.length]);
      bytes += typeof value === 'string' ? value.length : (JSON.stringify(value)?.length ?? 0);
      some.push(value);
    }
    return { values: some, left: values.length - from - some.length, bytes };
  },
};

/**
 * Whole numbers of 64 bits as numbers, where those are exact, else as text; missing values as null.
 * @param {unknown} value
 * @returns {unknown}
 */
function plain(value) {
  if (value === undefined) return null;
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return value;
  if (value instanceof Date) return Number.isNaN(Number(value)) ? null : value.toISOString();
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, plain(inner)]));
}
