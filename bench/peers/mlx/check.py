"""mlx-lm beside ours; prints one JSON line.

usage: python check.py read FOLDER EXPECTED.safetensors
    Loads a folder that we wrote, and compares logits of `ids` [time] with `logits` [time, vocabulary], greedy tokens
    after them with `greedy`, and the values of every matrix with those there. Everything is computed in float16.
usage: python check.py write MODEL FOLDER SCHEME
    Quantizes a model by mlx-lm (SCHEME: JSON of `convert`'s arguments) and writes it, with dense.safetensors: what
    mlx dequantizes every matrix to.
Needs mlx (mlx[cpu] on Linux) and mlx-lm.
"""

import json
import sys
from pathlib import Path

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import load_model


def dequantized(module):
    values = mx.dequantize(
        module.weight, module.scales, module.biases, group_size=module.group_size, bits=module.bits
    )
    return values.astype(mx.float32)


def quantized(model):
    return {name: m for name, m in model.named_modules() if hasattr(m, "scales")}


def greedy_after(model, ids, count):
    found, cache = [], make_prompt_cache(model)
    for _ in range(count):
        logits = model(mx.array([found[-1:] or ids]), cache=cache)
        found.append(mx.argmax(logits[0, -1]).item())
    return found


def read(folder, expected):
    tensors = mx.load(expected)
    model, _ = load_model(Path(folder))
    ids = tensors["ids"].tolist()
    logits = model(mx.array([ids]))[0].astype(mx.float32)
    difference = logits - tensors["logits"]
    modules = quantized(model)
    names = [name for name in tensors if name not in ("ids", "logits", "greedy")]
    weights = max(
        (mx.abs(dequantized(modules[name]) - tensors[name]).max() / mx.abs(tensors[name]).max()).item()
        for name in names
    )
    worst = mx.sqrt(mx.square(difference).mean(-1)).max() / mx.sqrt(mx.var(tensors["logits"]))
    return {
        "matrices": len(names),
        "worst": worst.item(),
        "weights": weights,
        "greedy": greedy_after(model, ids, len(tensors["greedy"])) == tensors["greedy"].tolist(),
    }


def write(source, folder, scheme):
    from mlx_lm.convert import convert

    path = Path(folder) / "converted"
    convert(source, str(path), quantize=True, dtype="float16", **json.loads(scheme))
    for file in path.iterdir():
        file.rename(Path(folder) / file.name)
    model, _ = load_model(Path(folder))
    mx.save_safetensors(
        str(Path(folder) / "dense.safetensors"),
        {name: dequantized(module) for name, module in quantized(model).items()},
    )
    return {}


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    print(json.dumps({"read": read, "write": write}[command](*arguments)))
