import { describe, expect, it } from 'vitest';
import { openGolden } from '../../test/engines/models.ts';
import { genaiConfig } from './genai.ts';
import { exportGraph } from './graph.ts';

describe("onnxruntime-genai's settings", () => {
  it.each(['qwen3', 'gpt2'] as const)('of %s name inputs and outputs that the graph has', async (name) => {
    const model = await openGolden(name);
    const { decoder } = genaiConfig(model, 'onnx/model.onnx').model as {
      decoder: Record<'inputs' | 'outputs', Record<string, string>>;
    };
    const graph = exportGraph(model);
    const named = (names: Record<string, string>) =>
      Object.values(names).map((one) => one.replace('%d', '1'));
    const inputs = graph.inputs.map((input) => input.name);
    const outputs = graph.outputs.map((output) => output.name);
    for (const one of named(decoder.inputs)) expect(inputs).toContain(one);
    for (const one of named(decoder.outputs)) expect(outputs).toContain(one);
  });

  it('share one buffer between old and new tokens only where attention is fused', async () => {
    const shared = async (name: 'qwen3' | 'llama') =>
      genaiConfig(await openGolden(name), 'model.onnx').search;
    expect(await shared('qwen3')).toMatchObject({ past_present_share_buffer: true, max_length: 128 });
    expect(await shared('llama')).toMatchObject({ past_present_share_buffer: false });
  });
});
