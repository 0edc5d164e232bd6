/** What both models answer stands in the report, the card and on the terminal, in every format. */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { writeText } from '../src/generate/generate.ts';
import { openModel } from '../src/open.ts';
import { parseReport } from '../src/report/data.ts';
import { answer, scratchFolder, writeStories } from './command-line.ts';
import { writeTinyCheckpoint } from './models/checkpoint.ts';

const scratch = scratchFolder();
const [model, chatty, text] = [scratch.path('tiny'), scratch.path('chatty'), scratch.path('text.jsonl')];
const reportIn = (out: string) => parseReport(readFileSync(join(out, 'report.json'), 'utf8'), out);

beforeAll(async () => {
  await writeTinyCheckpoint(model, { num_hidden_layers: 1 });
  await writeTinyCheckpoint(chatty, { num_hidden_layers: 1 });
  const template = '{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}';
  writeFileSync(join(chatty, 'chat_template.jinja'), template);
  writeStories(text, 10);
});
afterAll(scratch.remove);

function compress(from: string, name: string, ...flags: readonly string[]) {
  const out = scratch.path(name);
  return answer(['compress', from, '--no-speed', '--length', '32', ...flags, '--out', out]);
}

describe('answers', () => {
  it.each(['onnx', 'gguf', 'compressed-tensors', 'mlx'])(
    'are those of the written file: %s',
    async (format) => {
      const fit = format === 'gguf' ? ['--fit', 'plain'] : ['--method', 'rtn', '--group', '32'];
      const { code, stderr } = await compress(
        model,
        format,
        '--format',
        format,
        ...fit,
        '--evaluation',
        text,
      );
      expect(code, stderr).toBe(0);
      const { answers } = reportIn(scratch.path(format));
      expect(answers).toHaveLength(3);
      const opened = await openModel(scratch.path(format));
      const { tokenizer } = await openModel(model);
      const options = { maxTokens: 40, context: 64, threads: 1 };
      const [{ prompt, compressed, engine }] = answers!;
      const again = await writeText({ source: opened.model ?? opened.file, tokenizer }, prompt, options);
      expect(again.text).toBe(compressed);
      expect(engine).toMatch(format === 'onnx' ? /^ONNX Runtime \d/ : /^Lapidary$/);
      expect(readFileSync(join(scratch.path(format), 'README.md'), 'utf8')).toContain('## What it answers');
    },
  );

  it('of a model with a chat template are to questions, and one is shown', async () => {
    const { stdout } = await compress(chatty, 'chat', '--method', 'rtn');
    expect(stdout).toMatch(/Asked "What is the capital of France\?":\n +original +".*\n +compressed +/);
    expect(reportIn(scratch.path('chat')).answers).toHaveLength(3);
  });

  it('are left out when told so', async () => {
    const { stdout } = await compress(model, 'none', '--method', 'rtn', '--no-answers');
    expect(stdout).not.toContain('Asked');
    expect(reportIn(scratch.path('none')).answers).toBeUndefined();
  });
});
