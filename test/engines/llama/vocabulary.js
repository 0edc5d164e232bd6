/**
 * What llama.cpp takes from a file's vocabulary, in a process of its own: `node vocabulary.js FILE COUNT`, of as
 * many tokens, prints {"ends": [ids that end a text], "template": "..."}.
 */

import { getLlama, LlamaLogLevel } from './quick.js';

const llama = await getLlama({ maxThreads: 1, logLevel: LlamaLogLevel.error, logger: () => {} });
const model = await llama.loadModel({
  modelPath: process.argv[2],
  gpuLayers: 0,
  ignoreMemorySafetyChecks: true,
});
const ids = Array.from({ length: Number(process.argv[3]) }, (_, id) => id);
const ends = ids.filter((id) => model.isEogToken(id));
process.stdout.write(JSON.stringify({ ends, template: model.fileInfo.metadata.tokenizer.chat_template }));
process.exit(0);
