/** Files changed at random, always the same by the same numbers: in their bytes, or in the values of their JSON. */

import type { Random } from '../../src/base/random.ts';

/** Pieces that are likely to hit a rule when they replace a number, a name or a mark. */
const pieces = [
  '-1',
  '0',
  '1',
  '64',
  '1e9',
  '1e400',
  '2147483647',
  '9007199254740993',
  '18446744073709551615',
  '0.5',
  'null',
  'true',
  '""',
  '"F32"',
  '"BF16"',
  '"U64"',
  '"F4"',
  '"F99"',
  '[]',
  '{}',
  '[[[[',
  '}',
  ',',
  ': ',
  '\\ud800',
  '\\u0000',
  '"__proto__":1,',
  '"dtype"',
  '"shape"',
  '"data_offsets"',
  '"__metadata__"',
  '{{ messages }}',
  '{% for m in messages %}',
  '{% endfor %}',
  '| tojson',
  '&a [*a]',
  '../',
  '/',
  '\n',
  '\r',
  '"',
  '\0',
  'ÿ',
];

export type Mutate = (source: Uint8Array, numbers: Random) => Uint8Array;

/** One to three changes: a bit, a byte, a length, a run removed, doubled or moved, a number or text replaced, the end cut off. */
export const mutateBytes: Mutate = (source, numbers) => {
  let bytes: Buffer = Buffer.from(source);
  for (let left = 1 + numbers.integer(3); left > 0; left--) bytes = changed(bytes, numbers);
  return bytes;
};

function changed(bytes: Buffer, numbers: Random): Buffer {
  const at = numbers.integer(bytes.length + 1);
  const end = Math.min(bytes.length, at + 1 + numbers.integer(24));
  const piece = Buffer.from(pieces[numbers.integer(pieces.length)]!, 'latin1');
  const join3 = (middle: Uint8Array, rest: number) =>
    Buffer.concat([bytes.subarray(0, at), middle, bytes.subarray(rest)]);
  const written = (value: number) => {
    const copy = Buffer.from(bytes);
    if (at < copy.length) copy[at] = value;
    return copy;
  };
  switch (numbers.integer(9)) {
    case 0:
      return written((bytes[at] ?? 0) ^ (1 << numbers.integer(8)));
    case 1:
      return written(numbers.integer(256));
    case 2:
      return join3(Buffer.alloc(0), end);
    case 3:
      return join3(bytes.subarray(at, end), at);
    case 4:
      return join3(piece, end);
    case 5:
      return join3(piece, at);
    case 6:
      return replaceToken(bytes, piece, numbers);
    case 7:
      return lengthened(bytes, at, numbers);
    default:
      return bytes.subarray(0, at);
  }
}

/** Four or eight bytes become a small or a very large number, as lengths and counts are. */
function lengthened(bytes: Buffer, at: number, numbers: Random): Buffer {
  const copy = Buffer.from(bytes);
  const value = Buffer.alloc(numbers.integer(2) === 0 ? 4 : 8);
  value.writeUInt32LE([0, 1, 2 ** 16, 2 ** 31, 2 ** 32 - 1][numbers.integer(5)]!);
  value.copy(copy, at);
  return copy;
}

/** Replaces one number or string of a text. */
function replaceToken(bytes: Buffer, piece: Buffer, numbers: Random): Buffer {
  const tokens = [...bytes.toString('latin1').matchAll(/"[^"]*"|\d+/g)];
  if (tokens.length === 0) return bytes;
  const token = tokens[numbers.integer(tokens.length)]!;
  return Buffer.concat([
    bytes.subarray(0, token.index),
    piece,
    bytes.subarray(token.index + token[0].length),
  ]);
}

/** Stands in a value for text that JSON.stringify does not write. */
const raw = (text: string) => `\u0001${text}\u0001`;

/** What any value of a file might be instead; nested values and numbers that JSON has no way to write are raw text. */
function strange(numbers: Random): unknown {
  const depth = 1 + numbers.integer(3000);
  const values: readonly unknown[] = [
    null,
    true,
    false,
    '',
    'x',
    '__proto__',
    'a'.repeat(5000),
    '\ud800',
    0,
    1,
    -1,
    0.5,
    1e9,
    2 ** 31 - 1,
    2 ** 53,
    -(2 ** 31),
    1e308,
    raw('1e400'),
    raw('-0'),
    raw('9007199254740993'),
    [],
    {},
    [null],
    [[]],
    [1, 'a', {}],
    { '': 1 },
    raw('[{"__proto__":{"length":1}}]'),
    raw('['.repeat(depth) + ']'.repeat(depth)),
    raw('{"a":'.repeat(depth) + '1' + '}'.repeat(depth)),
  ];
  return values[numbers.integer(values.length)];
}

/** One to three values, names or places of a JSON text changed; now and then its bytes. */
export const mutateJson: Mutate = (source, numbers) => {
  if (numbers.integer(5) === 0) return mutateBytes(source, numbers);
  const root = { whole: JSON.parse(Buffer.from(source).toString('utf8')) as unknown };
  for (let left = 1 + numbers.integer(3); left > 0; left--) changeValue(root, numbers);
  const text = JSON.stringify(root.whole) ?? '';
  // eslint-disable-next-line no-control-regex
  return Buffer.from(
    text.replaceAll(/"\\u0001(.*?)\\u0001"/g, (_, inner: string) => JSON.parse(`"${inner}"`)),
  );
};

type Holder = Record<string, unknown>;

function changeValue(root: Holder, numbers: Random): void {
  const places: { readonly holder: Holder; readonly key: string }[] = [];
  const walk = (holder: Holder) => {
    for (const key of Object.keys(holder)) {
      places.push({ holder, key });
      const value = holder[key];
      if (typeof value === 'object' && value !== null) walk(value as Holder);
    }
  };
  walk(root);
  if (places.length === 0) return;
  const pick = () => places[numbers.integer(places.length)]!;
  // Lists of a thousand like entries would hide the few settings.
  let { holder, key } = pick();
  for (let turn = 0; Array.isArray(holder) && turn < 3; turn++) ({ holder, key } = pick());
  switch (numbers.integer(6)) {
    case 0:
      delete holder[key];
      return;
    case 1: {
      const other = pick();
      // Not into itself.
      holder[key] = structuredClone(other.holder[other.key]);
      return;
    }
    case 2: {
      const value = holder[key];
      delete holder[key];
      holder[pick().key] = value;
      return;
    }
    case 3: {
      const value = holder[key];
      holder[key] = typeof value === 'number' ? value * [2, -1, 1000, 0.5][numbers.integer(4)]! : [value];
      return;
    }
    default:
      holder[key] = strange(numbers);
  }
}
