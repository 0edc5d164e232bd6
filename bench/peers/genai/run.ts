/**
 * Our exported folders in onnxruntime-genai: the ids that it generates against ours, as one JSON line each.
 *
 *   npx tsx bench/peers/genai/run.ts --python PYTHON [--model models/pebble] [--tokens 48]
 *
 * PYTHON has onnxruntime-genai.
 */

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { exportTransformers } from '../../../src/export/transformers.ts';
import { writeText } from '../../../src/generate/generate.ts';
import { rtn } from '../../../src/methods/quantize/rtn.ts';
import { linearLayers } from '../../../src/models/size.ts';
import { openForCompression } from '../../../src/open.ts';

const { values: flags } = parseArgs({
  options: {
    python: { type: 'string', default: 'python3' },
    model: { type: 'string', default: 'models/pebble' },
    tokens: { type: 'string', default: '48' },
  },
});
const script = new URL('check.py', import.meta.url).pathname;
const prompt = 'Once upon a time';
const { model, tokenizer } = await openForCompression(flags.model);
const ids = tokenizer.encode(prompt);
const matrices = new Map(model.matrices);
for (const { name, encoding } of linearLayers(model)) {
  const [rows, columns] = encoding.shape;
  const options = rtn.options.parse({ bits: 4 });
  matrices.set(name, await rtn.compress({ rows, columns, values: encoding.dense() }, { tokens: 0 }, options));
}

for (const [what, one] of Object.entries({ original: model, '4 bits': { ...model, matrices } })) {
  const folder = mkdtempSync(join(tmpdir(), 'lapidary-genai-'));
  try {
    const [{ path }] = exportTransformers(one, folder);
    const ours = await writeText({ source: join(folder, path), tokenizer }, prompt, {
      maxTokens: Number(flags.tokens),
      temperature: 0,
      context: model.config.context,
    });
    const text = execFileSync(flags.python, [script, folder, ids.join(','), flags.tokens], {
      encoding: 'utf8',
    });
    const theirs = JSON.parse(text.trim().split('\n').at(-1)!) as number[];
    // An end of text is the last of theirs, and not among ours.
    const same = ours.ids.every((id, i) => id === theirs[i]);
    console.log(JSON.stringify({ case: what, tokens: ours.ids.length, same, text: ours.text }));
  } finally {
    rmSync(folder, { recursive: true });
  }
}
