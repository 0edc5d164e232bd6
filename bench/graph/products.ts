/**
 * What a product costs by how its matrix is stored: dense, 4-bit groups, 8-bit integers with inputs by token and by layer,
 * and 4-bit groups with 1% of the columns or of the weights apart. One token (generation) and many (a prompt); all of
 * them in turn, round by round, so that whatever else the machine does falls on all.
 *
 *   npx tsx bench/graph/products.ts [--rows 1536] [--columns 576] [--tokens 1,128,512] [--rounds 15] [--threads N]
 *
 * One JSON line for each kind and number of tokens: the median time, and the median of the rounds' ratios to dense.
 */

import { parseArgs } from 'node:util';
import { random } from '../../src/base/random.ts';
import { withColumns, withSparse } from '../../src/encodings/composite.ts';
import { denseValues } from '../../src/encodings/dense.ts';
import type { Encoding } from '../../src/encodings/encoding.ts';
import { encodedBytes } from '../../src/encodings/encoding.ts';
import { grouped } from '../../src/encodings/grouped.ts';
import { integers } from '../../src/encodings/integer.ts';
import { roundedActivations } from '../../src/encodings/rounded.ts';
import { median } from '../../src/evaluate/bootstrap.ts';
import { Graph } from '../../src/graph/graph.ts';
import type { Session } from '../../src/graph/session.ts';
import { openSession, tensor } from '../../src/graph/session.ts';

const { values: flags } = parseArgs({
  options: {
    rows: { type: 'string', default: '1536' },
    columns: { type: 'string', default: '576' },
    tokens: { type: 'string', default: '1,128,512' },
    rounds: { type: 'string', default: '15' },
    threads: { type: 'string' },
  },
});
const [rows, columns, rounds] = [flags.rows, flags.columns, flags.rounds].map(Number);
const threads = flags.threads === undefined ? undefined : Number(flags.threads);
const { normal, integer } = random(1);
const normals = (length: number) => Float32Array.from({ length }, normal);

const groups = grouped({
  rows,
  columns,
  bits: 4,
  group: 32,
  codes: Uint8Array.from({ length: rows * columns }, () => integer(16)),
  scales: normals(rows * Math.ceil(columns / 32)),
});
const bytes = {
  rows,
  columns,
  codes: Int8Array.from({ length: rows * columns }, () => integer(255) - 127),
  scales: normals(rows),
};
/** Every so many columns one that is kept. */
const apart = Int32Array.from({ length: Math.ceil(columns / 100) }, (_, i) => 100 * i);
const kinds: Readonly<Record<string, Encoding>> = {
  dense: denseValues(normals(rows * columns), rows, columns),
  '4-bit': groups,
  w8a8: integers(bytes),
  'w8a8 static': integers({ ...bytes, input: 0.03 }),
  w4a8: roundedActivations(groups, { bits: 8 }),
  'columns apart': withColumns(groups, { columns: apart, values: normals(apart.length * rows) }),
  'weights apart': withSparse(groups, {
    starts: Int32Array.from({ length: rows + 1 }, (_, row) => row * apart.length),
    columns: Int32Array.from({ length: rows * apart.length }, (_, i) => apart[i % apart.length]),
    values: normals(rows * apart.length),
  }),
};

function open(encoding: Encoding): Promise<Session> {
  const graph = new Graph();
  const x = graph.input('x', 'float32', ['tokens', columns]);
  graph.output(
    'y',
    encoding.multiply(x, (suffix, stored) => graph.weight(suffix, stored)),
  );
  return openSession(graph, { threads });
}

const sessions = new Map<string, Session>();
for (const [kind, encoding] of Object.entries(kinds)) sessions.set(kind, await open(encoding));
for (const tokens of flags.tokens.split(',').map(Number)) {
  const feeds = { x: tensor('float32', [tokens, columns], normals(tokens * columns)) };
  const repeats = Math.max(1, Math.floor(200 / tokens));
  const times = new Map([...sessions.keys()].map((kind) => [kind, [] as number[]]));
  for (let round = -1; round < rounds; round++) {
    for (const [kind, session] of sessions) {
      const start = performance.now();
      for (let i = 0; i < repeats; i++) await session.run(feeds);
      if (round >= 0) times.get(kind)!.push((performance.now() - start) / repeats);
    }
  }
  const dense = times.get('dense')!;
  for (const [kind, each] of times) {
    const ratio = median(each.map((time, round) => time / dense[round]));
    const line = { bench: 'products', kind, rows, columns, tokens, bytes: encodedBytes(kinds[kind]) };
    console.log(JSON.stringify({ ...line, milliseconds: median(each), toDense: ratio }));
  }
}
for (const session of sessions.values()) await session.release();
