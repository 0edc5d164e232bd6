/**
 * How byte-level vocabularies cut a text before they merge, by the names that llama.cpp gives the ways
 * (tokenizer.ggml.pre). Facts of llama.cpp's llama-vocab.cpp and of the tokenizer.json files of the models.
 */

export interface PreTokenizer {
  /** Regular expressions applied one after the other, each to the pieces of the one before. */
  readonly patterns: readonly string[];
  /** A piece that is a token by itself is not merged anew. */
  readonly ignoreMerges?: boolean;
  /** Whether a text begins with BOS where the file does not say. */
  readonly addBos?: boolean;
}

const gpt2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

const contractions = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])";
const modern = (digits: string) =>
  `${contractions}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;

const upper = '[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]';
const lower = '[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]';
/** Words cut where a capital follows small letters. */
const cased = (suffix: string, digits: string) =>
  [
    `[^\\r\\n\\p{L}\\p{N}]?${upper}*${lower}+${suffix}`,
    `[^\\r\\n\\p{L}\\p{N}]?${upper}+${lower}*${suffix}`,
    digits,
    ' ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*',
    '\\s*[\\r\\n]+',
    '\\s+(?!\\S)',
    '\\s+',
  ].join('|');

const digitByDigit: PreTokenizer = { patterns: ['\\p{N}', gpt2] };
const plain: PreTokenizer = { patterns: [gpt2] };
const llama3: PreTokenizer = { patterns: [modern('\\p{N}{1,3}')], ignoreMerges: true, addBos: true };
const qwen: PreTokenizer = { patterns: [modern('\\p{N}')] };

/** By tokenizer.ggml.pre. */
export const preTokenizers: ReadonlyMap<string, PreTokenizer> = new Map([
  ['default', { patterns: ['[\\p{P}\\$\\+<=>\\^~\\|]+', gpt2, '\\p{N}+', '[0-9][0-9][0-9]'] }],
  ['falcon', { patterns: ['[\\p{P}\\$\\+<=>\\^~\\|`]+', gpt2, '[0-9][0-9][0-9]'] }],
  ...['gpt-2', 'phi-2', 'jina-es', 'jina-de', 'jina-v1-en', 'jina-v2-es', 'jina-v2-de', 'roberta-bpe']
    .concat([
      'mpt',
      'olmo',
      'jais',
      'trillion',
      'granite-docling',
      'gigachat',
      'a.x-4.0',
      'mellum',
      'modern-bert',
      'exaone4',
    ])
    .map((name) => [name, plain] as const),
  ...['starcoder', 'refact', 'command-r', 'smollm', 'codeshell', 'exaone', 'minerva-7b'].map(
    (name) => [name, digitByDigit] as const,
  ),
  ...['llama3', 'llama-v3', 'llama-bpe', 'falcon3', 'pixtral', 'midm-2.0', 'lfm2'].map(
    (name) => [name, llama3] as const,
  ),
  ...['dbrx', 'smaug-bpe', 'chatglm-bpe', 'glm4'].map(
    (name) => [name, { patterns: llama3.patterns }] as const,
  ),
  ...['qwen2', 'stablelm2', 'deepseek-r1-qwen', 'kormo', 'hunyuan', 'megrez'].map(
    (name) => [name, qwen] as const,
  ),
  ['tekken', { patterns: [cased('', '\\p{N}')], ignoreMerges: true, addBos: true }],
  ...['gpt-4o', 'llama4'].map(
    (name) =>
      [
        name,
        {
          patterns: [
            cased(
              "(?:'s|'t|'re|'ve|'m|'ll|'d)?".replace(/[a-z]/g, (c) => `[${c}${c.toUpperCase()}]`),
              '\\p{N}{1,3}',
            ),
          ],
        },
      ] as const,
  ),
]);

/** What llama.cpp's conversion encodes to tell tokenizers apart. */
export const checkText =
  '\n \n\n \n\n\n \t \t\t \t\n  \n   \n    \n     \n🚀 (normal) 😶\u200d🌫️ (multiple emojis concatenated) ✅ 🦙🦙 3 33 333 3333 ' +
  '33333 333333 3333333 33333333 3.3 3..3 3...3 កាន់តែពិសេសអាច😁 ?我想在apple工作1314151天～ ------======= нещо на Български ' +
  "''''''```````\"\"\"\"......!!!!!!?????? I've been 'told he's there, 'RE you sure? 'M not sure I'll make it, 'D you " +
  "like some tea? We'Ve a'lL";

/** sha256 of the ids that the models named so give for it. */
export const preHashes: ReadonlyMap<string, string> = new Map([
  ['0ef9807a4087ebef797fc749390439009c3b9eda9ad1a097abbe738f486c01e5', 'llama-bpe'],
  ['8aeee3860c56296a157a1fe2fad249ec40aa59b1bb5709f4ade11c4e6fe652ed', 'falcon'],
  ['9d032fcbd5501f4a38150912590928bfb36091efb5df11b8e2124b0390e3fb1e', 'falcon3'],
  ['b6dc8df998e1cfbdc4eac8243701a65afe638679230920b50d6f17d81c098166', 'mpt'],
  ['35d91631860c815f952d711435f48d356ebac988362536bed955d43bfa436e34', 'starcoder'],
  ['3ce83efda5659b07b1ad37ca97ca5797ea4285d9b9ab0dc679e4a720c9da7454', 'gpt-2'],
  ['32d85c31273f8019248f2559fed492d929ea28b17e51d81d3bb36fff23ca72b3', 'stablelm2'],
  ['6221ad2852e85ce96f791f476e0b390cf9b474c9e3d1362f53a24a06dc8220ff', 'refact'],
  ['9c2227e4dd922002fb81bde4fc02b0483ca4f12911410dee2255e4987644e3f8', 'command-r'],
  ['e636dc30a262dcc0d8c323492e32ae2b70728f4df7dfe9737d9f920a282b8aea', 'qwen2'],
  ['d4540891389ea895b53b399da6ac824becc30f2fba0e9ddbb98f92e55ca0e97c', 'qwen2'],
  ['a8594e3edff7c29c003940395316294b2c623e09894deebbc65f33f1515df79e', 'dbrx'],
  ['c136ed14d01c2745d4f60a9596ae66800e2b61fa45643e72436041855ad4089d', 'smaug-bpe'],
  ['7b3e7548e4308f52a76e8229e4e6cc831195d0d1df43aed21ac6c93da05fec5f', 'codeshell'],
  ['63b97e4253352e6f357cc59ea5b583e3a680eaeaf2632188c2b952de2588485e', 'tekken'],
  ['855059429035d75a914d1eda9f10a876752e281a054a7a3d421ef0533e5b6249', 'smollm'],
  ['4e2b24cc4770243d65a2c9ec19770a72f08cffc161adbb73fcbb6b7dd45a0aae', 'exaone'],
  ['fcace8b9cac38ce847670c970cd5892031a753a1ef381abd1d9af00f713da085', 'phi-2'],
  ['1431a23e583c97432bc230bff598d103ddb5a1f89960c8f1d1051aaa944d0b35', 'minerva-7b'],
  ['8b5a93ed704057481f240da0be7e7dca721d7f8f4755263b6807227a2cbeae65', 'roberta-bpe'],
  ['d4c8f286ea6b520b3d495c4455483cfa2302c0cfcd4be05d781b6a8a0a7cdaf1', 'megrez'],
  ['b3f499bb4255f8ca19fccd664443283318f2fd2414d5e0b040fbdd0cc195d6c5', 'deepseek-r1-qwen'],
  ['ccc2ef013c104be7bae2965776d611e1d7a8a2a9c547dd93a682c9a9fc80352e', 'gpt-4o'],
]);
