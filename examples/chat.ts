/**
 * A conversation at the terminal, with a model that has a chat template. It is kept open, and of each turn only what is new
 * is computed.
 * Run: npx tsx examples/chat.ts MODEL
 */

import { createInterface } from 'node:readline';
import type { ChatMessage } from 'lapidary';
import { openGenerator } from 'lapidary';

const [model = 'pebble'] = process.argv.slice(2);
const generator = await openGenerator(model);
const messages: ChatMessage[] = [];
try {
  for await (const line of createInterface({ input: process.stdin })) {
    messages.push({ role: 'user', content: line });
    const answer = generator.generate(messages, { maxTokens: 100 });
    for await (const text of answer) process.stdout.write(text);
    const { text, promptTokens, cachedTokens } = await answer;
    messages.push({ role: 'assistant', content: text });
    console.log(`\n(${promptTokens} tokens read, ${cachedTokens} of them before)`);
  }
} finally {
  await generator.close();
}
