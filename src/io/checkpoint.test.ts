import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { ExitCode, LapidaryError } from '../base/errors.ts';
import { toFloat32 } from '../base/half.ts';
import { stored } from '../base/tensor.ts';
import { openCheckpoint } from './checkpoint.ts';
import { writeSafetensors, writeSharded } from './safetensors/write.ts';

const root = mkdtempSync(join(tmpdir(), 'lapidary-checkpoint-'));
afterAll(() => rmSync(root, { recursive: true }));
let count = 0;

const vector = (...values: number[]) => stored('float32', [values.length], Float32Array.from(values));
const tensors = new Map([
  ['a', vector(1, 2)],
  ['b', vector(3)],
  ['c', vector(4, 5, 6)],
]);
const index = 'model.safetensors.index.json';

/** A folder of these files; a value that is not text is written as JSON. */
function folder(files: Record<string, unknown>): string {
  const path = join(root, `model-${count++}`);
  mkdirSync(path);
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(path, name)), { recursive: true });
    writeFileSync(join(path, name), typeof content === 'string' ? content : JSON.stringify(content));
  }
  return path;
}

async function sharded(): Promise<string> {
  const path = folder({ 'config.json': { model_type: 'llama' } });
  await writeSharded(path, tensors, 8);
  return path;
}

async function failure(location: string, options = {}): Promise<LapidaryError> {
  const found = await openCheckpoint(location, options).then(
    () => undefined,
    (error) => error,
  );
  expect(found).toBeInstanceOf(LapidaryError);
  return found;
}

describe('a checkpoint in a folder', () => {
  it('gives its configuration, its weights and the files that travel', async () => {
    const path = folder({
      'config.json': { model_type: 'llama' },
      'tokenizer.json': '{}',
      'generation_config.json': '{}',
      LICENSE: 'free',
      'train.log': 'no',
    });
    await writeSafetensors(join(path, 'model.safetensors'), tensors);
    const checkpoint = await openCheckpoint(path);
    expect(checkpoint.source).toBe(path.split('/').at(-1));
    expect(checkpoint.json).toEqual({ model_type: 'llama' });
    expect([...toFloat32(checkpoint.tensors.get('c')!)]).toEqual([4, 5, 6]);
    expect([...checkpoint.files.keys()].sort()).toEqual([
      'LICENSE',
      'generation_config.json',
      'tokenizer.json',
    ]);
    expect(Buffer.from(checkpoint.files.get('LICENSE')!()).toString()).toBe('free');
  });

  it('gives the same weights from shards', async () => {
    const path = await sharded();
    expect(existsSync(join(path, 'model-00001-of-00003.safetensors'))).toBe(true);
    const checkpoint = await openCheckpoint(path);
    expect([...checkpoint.tensors.keys()]).toEqual(['a', 'b', 'c']);
    expect([...toFloat32(checkpoint.tensors.get('b')!)]).toEqual([3]);
  });

  it('is identified by its configuration and weights, not by its place or its other files', async () => {
    const [first, second] = [await sharded(), await sharded()];
    writeFileSync(join(second, 'tokenizer.json'), '{}');
    const identity = (await openCheckpoint(first)).identity();
    expect(identity).toMatch(/^[0-9a-f]{64}$/);
    expect((await openCheckpoint(second)).identity()).toBe(identity);
    const shard = join(second, 'model-00003-of-00003.safetensors');
    const bytes = readFileSync(shard);
    bytes[bytes.length - 1] ^= 1;
    writeFileSync(shard, bytes);
    expect((await openCheckpoint(second)).identity()).not.toBe(identity);
    writeFileSync(join(first, 'config.json'), '{}');
    expect((await openCheckpoint(first)).identity()).not.toBe(identity);
  });

  it('is one checkpoint from when it was opened: files that change afterwards are refused by name', async () => {
    const path = await sharded();
    writeFileSync(join(path, 'tokenizer.json'), '{}');
    const checkpoint = await openCheckpoint(path);
    const tokenizer = checkpoint.files.get('tokenizer.json')!;
    expect(Buffer.from(tokenizer()).toString()).toBe('{}');
    writeFileSync(join(path, 'tokenizer.json'), '{"other":1}');
    expect(tokenizer).toThrow(/tokenizer\.json: the file changed while it was in use/);
    rmSync(join(path, 'model-00002-of-00003.safetensors'));
    expect(() => checkpoint.identity()).toThrow(/model-00002-of-00003\.safetensors: the file changed/);
    expect(() => checkpoint.tensors.get('b')!.bytes()).toThrow(/found: no file/);
    expect([...toFloat32(checkpoint.tensors.get('a')!)]).toEqual([1, 2]);
  });
});

describe('a checkpoint that is not whole', () => {
  it('names the shard that is missing', async () => {
    const path = await sharded();
    rmSync(join(path, 'model-00002-of-00003.safetensors'));
    expect((await failure(path)).message).toMatch(/model-00002-of-00003.safetensors: a shard is missing/);
  });

  it('names the tensor that its index puts where it is not, and the one that is there twice', async () => {
    const path = await sharded();
    const map = JSON.parse(readFileSync(join(path, index), 'utf8'));
    map.weight_map.d = map.weight_map.a;
    writeFileSync(join(path, index), JSON.stringify(map));
    expect((await failure(path)).message).toMatch(/disagree about tensor "d"(.|\n)*it in no shard/);
    delete map.weight_map.d;
    map.weight_map.a = map.weight_map.c;
    writeFileSync(join(path, index), JSON.stringify(map));
    expect((await failure(path)).message).toMatch(/disagree about tensor "a"/);
    await writeSafetensors(join(path, map.weight_map.c), tensors);
    expect((await failure(path)).message).toMatch(/tensor "b" is in two shards/);
  });

  it.each([
    ['leaves its folder', { a: '../model.safetensors' }],
    ['is absolute', { a: '/model.safetensors' }],
    ['is in a subfolder', { a: 'x/model.safetensors' }],
    ['is a path of another system', { a: 'C:\\model.safetensors' }],
    ['is not safetensors', { a: 'pytorch_model.bin' }],
    ['has a NUL', { a: 'a\0.safetensors' }],
    ['is no name', { a: 3 }],
  ])('refuses an index whose file %s', async (_why, map) => {
    const path = folder({ 'config.json': {}, [index]: { weight_map: map } });
    expect((await failure(path)).problem.where).toContain(index);
  });

  it.each([
    ['not JSON', '{'],
    ['a list', []],
    ['without a map', {}],
    ['with a list for a map', { weight_map: [] }],
    ['empty', { weight_map: {} }],
    ['with a tensor twice', '{"weight_map":{"a":"x.safetensors","a":"y.safetensors"}}'],
  ])('refuses an index that is %s', async (_why, content) => {
    const path = folder({ 'config.json': {}, [index]: content });
    expect((await failure(path)).problem.where).toContain(index);
  });

  it('asks for config.json, and for one that is an object', async () => {
    const path = folder({});
    await writeSafetensors(join(path, 'model.safetensors'), tensors);
    expect((await failure(path)).message).toMatch(/no config.json/);
    for (const content of ['', '[]', '"x"', '{"a":1,"a":2}']) {
      writeFileSync(join(path, 'config.json'), content);
      expect((await failure(path)).problem.where).toContain('config.json');
    }
  });

  it('refuses weights of a type that it does not compute with', async () => {
    const header = '{"a":{"dtype":"F8_E8M0","shape":[1],"data_offsets":[0,1]}}';
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(header.length));
    const path = folder({ 'config.json': {} });
    writeFileSync(
      join(path, 'model.safetensors'),
      Buffer.concat([length, Buffer.from(header), Buffer.alloc(1)]),
    );
    expect((await failure(path)).message).toMatch(/"a" \[1\] is F8_E8M0(.|\n)*bf16/);
  });
});

describe('a location that is no checkpoint', () => {
  it.each(['pytorch_model.bin', 'model.pt', 'consolidated.00.pth', 'weights.pkl', 'last.ckpt'])(
    'is refused where the weights are a pickle: %s',
    async (name) => {
      const { message } = await failure(folder({ 'config.json': {}, [name]: 'x' }));
      expect(message).toMatch(/runs whatever code it holds(.|\n)*to do: use the safetensors version/);
      expect(message).toContain(name);
    },
  );

  it('takes safetensors where both are there', async () => {
    const path = folder({ 'config.json': {}, 'pytorch_model.bin': 'x' });
    await writeSafetensors(join(path, 'model.safetensors'), tensors);
    expect((await openCheckpoint(path)).tensors.size).toBe(3);
  });

  it('says what a folder without weights holds', async () => {
    expect((await failure(folder({ 'config.json': {}, 'notes.txt': '' }))).message).toMatch(
      /found: config.json, notes.txt/,
    );
    expect((await failure(folder({ 'training_args.bin': '' }))).message).toMatch(/no weights here/);
    expect((await failure(folder({}))).message).toMatch(/an empty folder/);
  });

  it('says both readings of a name that is neither a folder nor a hub id', async () => {
    const { message } = await failure('no-such-folder');
    expect(message).toMatch(
      /neither a folder nor a hub id(.|\n)*no folder at .*no-such-folder, and the name is not org\/name/,
    );
    expect((await failure('./no/such')).message).toMatch(/neither a folder/);
  });

  it('points from a file to its folder', async () => {
    const path = folder({ 'config.json': {} });
    expect((await failure(join(path, 'config.json'))).message).toContain(`give the folder: ${path}`);
    const text = join(folder({ 'text.jsonl': {} }), 'text.jsonl');
    const { message } = await failure(text);
    expect(message).toContain('a file where a model folder is needed');
    expect(message).not.toContain(`give the folder: `);
  });

  it('takes no revision for a folder', async () => {
    expect((await failure(await sharded(), { revision: 'main' })).exitCode).toBe(ExitCode.usage);
  });
});
