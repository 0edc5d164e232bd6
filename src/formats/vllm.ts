/** The model card of folders that vLLM serves. */

import { shellWord } from '../base/shell.ts';
import type { CardFacts, CardFormat } from '../report/card-format.ts';
import { exampleMessages, examplePrompt } from '../report/use.ts';

export const vllmCard =
  (tags: readonly string[]) =>
  ({ name, chat }: CardFacts): CardFormat => {
    const model = `./${name}`;
    const [path, body] = chat
      ? ['chat/completions', { model, messages: exampleMessages }]
      : ['completions', { model, prompt: examplePrompt(false), max_tokens: 64 }];
    return {
      library: 'transformers',
      tags: [...tags],
      usage: [
        {
          title: `Beside the folder; or with \`user/${name}\`, once it is uploaded:`,
          language: 'sh',
          code: `vllm serve ${shellWord(model)}`,
        },
        {
          title: 'Then:',
          language: 'sh',
          code: [
            `curl http://localhost:8000/v1/${path} -H 'Content-Type: application/json' -d \\`,
            `  ${shellWord(JSON.stringify(body))}`,
          ].join('\n'),
        },
      ],
    };
  };
