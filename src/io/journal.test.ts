import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { floatToHalf } from '../base/half.ts';
import { random } from '../base/random.ts';
import { stored } from '../base/tensor.ts';
import type { Journal } from './journal.ts';
import { openJournal, remember } from './journal.ts';

const root = mkdtempSync(join(tmpdir(), 'lapidary-journal-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));
let count = 0;
const place = () => join(root, `${count++}`, 'out');
const folderOf = (output: string) => join(output, '..', '.out.journal');

const key = { recipe: { steps: [{ method: 'gptq', bits: 4 }], seed: 0 }, modelSha256: 'abc' };

function open(output: string, itsKey: Record<string, unknown> = key): { journal: Journal; said: string[] } {
  const said: string[] = [];
  return { journal: openJournal(output, itsKey, { warn: (line) => said.push(line) }), said };
}

const tensors = new Map([
  ['0.codes', stored('uint8', [2, 3], Uint8Array.of(1, 2, 3, 4, 5, 255))],
  ['0.scales', stored('float16', [2], floatToHalf(Float32Array.of(0.5, -3)))],
  ['1.weight', stored('float32', [1, 2], Float32Array.of(Number.NaN, -0))],
]);
const data = { name: 'layer', error: 0.1 + 0.2, rest: [null, true, 'text', { deep: 5e-324 }] };

const plain = (entry: ReturnType<Journal['read']>) =>
  entry && {
    data: entry.data,
    tensors: [...entry.tensors].map(([name, { dtype, shape, bytes }]) => {
      return [name, dtype, shape, [...bytes()]];
    }),
  };
const sorted = { data, tensors: new Map([...tensors].sort(([a], [b]) => (a < b ? -1 : 1))) };

describe('a journal', () => {
  it('is not on the disk before the first unit, and gone when it is removed', async () => {
    const output = place();
    const { journal } = open(output);
    expect([journal.size, existsSync(folderOf(output))]).toEqual([0, false]);
    await journal.write('block-0', { tensors, data });
    expect([journal.size, readdirSync(join(output, '..'))]).toEqual([1, ['.out.journal']]);
    journal.remove();
    expect(readdirSync(join(output, '..'))).toEqual([]);
    journal.remove();
  });

  it('gives the next run of the same key every unit as it was, bit for bit', async () => {
    const output = place();
    await open(output).journal.write('block-0', { tensors, data });
    const reordered = { modelSha256: 'abc', recipe: { seed: 0, steps: [{ bits: 4, method: 'gptq' }] } };
    const { journal, said } = open(output, reordered);
    const read = journal.read('block-0')!;
    expect({ ...plain(read), tensors: plain(read)!.tensors.sort() }).toEqual({
      ...plain(sorted),
      tensors: plain(sorted)!.tensors.sort(),
    });
    expect(journal.read('block-1')).toBeUndefined();
    expect(said).toEqual([]);
  });

  it('of another key is thrown away, with a sentence that names what differs', async () => {
    const output = place();
    await open(output).journal.write('block-0', { tensors, data });
    const { journal, said } = open(output, { ...key, modelSha256: 'def', device: 'cpu' });
    expect(said).toHaveLength(1);
    expect(said[0]).toMatch(/thrown away: it had another modelSha256, device$/);
    expect([journal.size, journal.read('block-0'), existsSync(folderOf(output))]).toEqual([
      0,
      undefined,
      false,
    ]);
  });

  it('that does not say its key is thrown away', async () => {
    const output = place();
    await open(output).journal.write('block-0', { tensors, data });
    writeFileSync(join(folderOf(output), 'key.json'), '{"recipe":');
    expect(open(output).said[0]).toMatch(/does not say what it is of/);
    expect(existsSync(folderOf(output))).toBe(false);
  });

  it('does not take a unit under another name, or one of another key', async () => {
    const [output, other] = [place(), place()];
    const { journal } = open(output);
    await journal.write('block-0', { tensors, data });
    const file = (folder: string, unit: string) => join(folderOf(folder), `${unit}.safetensors`);
    writeFileSync(file(output, 'block-1'), readFileSync(file(output, 'block-0')));
    expect(journal.read('block-1')).toBeUndefined();
    const foreign = open(other, { ...key, seed: 1 }).journal;
    await foreign.write('block-2', { tensors, data });
    writeFileSync(file(other, 'block-0'), readFileSync(file(output, 'block-0')));
    expect(foreign.read('block-0')).toBeUndefined();
    expect(foreign.read('block-2')).toBeDefined();
  });

  it('ignores what is damaged: after 500 changes at random a unit is missing or as it was', async () => {
    const output = place();
    const { journal } = open(output);
    await journal.write('unit', { tensors, data });
    const path = join(folderOf(output), 'unit.safetensors');
    const whole = readFileSync(path);
    const before = plain(journal.read('unit'));
    const numbers = random(4);
    let ignored = 0;
    for (let round = 0; round < 500; round++) {
      const changed = Buffer.from(whole);
      const at = numbers.integer(changed.length);
      const kind = numbers.integer(4);
      if (kind === 0) changed[at] ^= 1 << numbers.integer(8);
      if (kind === 1) changed.copyWithin(at, numbers.integer(changed.length));
      if (kind === 2) changed.fill(numbers.integer(256), at, Math.min(changed.length, at + 20));
      writeFileSync(path, kind === 3 ? changed.subarray(0, at) : changed);
      const read = plain(journal.read('unit'));
      // Blanks at the header's end may become others.
      if (read) expect(read).toEqual(before);
      else ignored++;
    }
    expect(ignored).toBeGreaterThan(450);
    writeFileSync(path, Buffer.concat([whole, Buffer.alloc(1)]));
    expect(journal.read('unit')).toBeUndefined();
    writeFileSync(path, whole);
    expect(journal.read('unit')).toBeDefined();
  });
});

describe('work that is remembered', () => {
  const awkward = {
    a: -0,
    b: Number.NaN,
    c: [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY],
    d: '$number',
  };

  it('is done once, and its result is the same from the journal, numbers that JSON does not know too', async () => {
    const output = place();
    let times = 0;
    const work = async () => {
      times++;
      return awkward;
    };
    const first = await remember(open(output).journal, 'evaluation', work);
    const second = await remember(open(output).journal, 'evaluation', work);
    expect(times).toBe(1);
    expect(first).toEqual(awkward);
    expect(second).toEqual(awkward);
    expect(Object.is(second.a, -0)).toBe(true);
  });

  it('may give nothing, and is done each time where there is no journal', async () => {
    const { journal } = open(place());
    expect(await remember(journal, 'nothing', async () => undefined)).toBeUndefined();
    expect(await remember<unknown>(journal, 'nothing', async () => 1)).toBeUndefined();
    expect(await remember(undefined, 'nothing', async () => 1)).toBe(1);
  });

  it('may have any name, and is not taken for other work of a similar one', async () => {
    const { journal } = open(place());
    const name = '../evaluate with 8-bit activations';
    expect(await remember(journal, name, async () => 1)).toBe(1);
    expect(await remember(journal, name, async () => 2)).toBe(1);
    expect(await remember(journal, name.replaceAll(' ', '/'), async () => 3)).toBe(3);
  });

  it('that fails is not kept', async () => {
    const { journal } = open(place());
    await expect(remember(journal, 'work', async () => Promise.reject(new Error('no')))).rejects.toThrow(
      'no',
    );
    expect(await remember(journal, 'work', async () => 2)).toBe(2);
  });
});
