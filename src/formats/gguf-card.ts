/** The model card of GGUF files: llama.cpp's own programs. */

import { shellWord } from '../base/shell.ts';
import type { CardFacts, CardFormat } from '../report/card-format.ts';
import { examplePrompt } from '../report/use.ts';

export function ggufCard({ name, file: { path }, chat }: CardFacts): CardFormat {
  const file = shellWord(`./${name}/${path}`);
  const prompt = examplePrompt(chat);
  // Since December 2025 llama-cli is for conversations alone.
  const once = chat
    ? `llama-cli -m ${file} -p "${prompt}"`
    : `llama-completion -m ${file} -no-cnv -p "${prompt}" -n 64`;
  return {
    tags: ['gguf'],
    usage: [
      {
        title: `With llama.cpp, beside the folder; or with \`-hf user/${name}\` in place of \`-m\` and the file, once it is uploaded:`,
        language: 'sh',
        code: `${once}\nllama-server -m ${file}`,
      },
    ],
  };
}
