/**
 * Writes goldens/blocks.json anew, by ggml's own code:
 *
 *   npx tsx test/blocks-goldens.ts
 */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { blockTypes } from '../src/encodings/blocks/index.ts';
import { blocks256, blocks32, columns, digest, importance } from './blocks-cases.ts';
import { askGgml } from './blocks-ggml.ts';

const goldens = [...blockTypes.byId.values()].map((type) => {
  const values = type.size === 32 ? blocks32 : blocks256;
  const [plain, weighted] = askGgml([
    { type, values, columns },
    { type, values, columns, importance },
  ]).map(({ blocks }) => ({
    sha256: digest(blocks),
    first: Buffer.from(blocks.subarray(0, type.bytes)).toString('base64'),
  }));
  return [type.name, { plain, weighted }];
});
const file = join(import.meta.dirname, 'goldens', 'blocks.json');
writeFileSync(file, `${JSON.stringify(Object.fromEntries(goldens), undefined, 2)}\n`);
