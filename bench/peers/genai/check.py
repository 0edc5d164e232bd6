"""onnxruntime-genai runs an exported folder; prints one JSON line with the ids that it generates greedily.

usage: python check.py FOLDER PROMPT_IDS COUNT      (ids with commas between them)
Needs onnxruntime-genai.
"""

import json
import sys

import onnxruntime_genai as og


def generate(folder, prompt, count):
    model = og.Model(folder)
    parameters = og.GeneratorParams(model)
    parameters.set_search_options(max_length=len(prompt) + count, do_sample=False)
    generator = og.Generator(model, parameters)
    generator.append_tokens(prompt)
    while not generator.is_done():
        generator.generate_next_token()
    return [int(id) for id in generator.get_sequence(0)][len(prompt) :]


if __name__ == "__main__":
    folder, ids, count = sys.argv[1:]
    print(json.dumps(generate(folder, [int(id) for id in ids.split(",")], int(count))))
