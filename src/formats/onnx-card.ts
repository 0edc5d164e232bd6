/** The model card of folders that transformers.js loads: lines that run as they stand, in Node and in a browser. */

import type { CardFacts, CardFormat } from '../report/card-format.ts';
import { exampleMessages, examplePrompt, scriptText } from '../report/use.ts';

export function onnxCard({ name, file: { type, browsers }, chat }: CardFacts): CardFormat {
  const prompt = chat
    ? `[${exampleMessages.map(({ role, content }) => `{ role: ${scriptText(role)}, content: ${scriptText(content)} }`).join(', ')}]`
    : scriptText(examplePrompt(false));
  const ask = [
    `const [{ generated_text }] = await generator(${prompt}, { max_new_tokens: 64 });`,
    `console.log(generated_text${chat ? '.at(-1).content' : ''});`,
  ];
  const load = (location: string) =>
    `const generator = await pipeline('text-generation', ${scriptText(location)}, { dtype: '${type}' });`;
  return {
    library: 'transformers.js',
    tags: ['onnx'],
    usage: [
      {
        title: `In Node (\`npm install @huggingface/transformers\`), beside the folder; or with \`'user/${name}'\`, once it is uploaded:`,
        language: 'js',
        code: ["import { pipeline } from '@huggingface/transformers';", '', load(`./${name}`), ...ask].join(
          '\n',
        ),
      },
      {
        title: `In a browser, from a site that has the folder below \`/models/\`; or with \`'user/${name}'\` and without the two lines of \`env\`, once it is uploaded.${browsers === 'gpu' ? gpuAlone : ''}`,
        language: 'js',
        code: [
          "import { env, pipeline } from '@huggingface/transformers';",
          '',
          'env.allowLocalModels = true;',
          "env.localModelPath = '/models/';",
          load(name),
          ...ask,
        ].join('\n'),
      },
    ],
  };
}

const gpuAlone =
  " With `device: 'webgpu'` beside dtype it runs on the GPU; without, in WebAssembly, which restores the weights for every token, 14 to 20 times slower than float32: `lapidary compress --for wasm` writes what is fast there.";
