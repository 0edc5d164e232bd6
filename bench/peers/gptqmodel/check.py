"""GPTQModel beside ours, for GPTQ's and AWQ's formats, on a CPU by its PyTorch kernels; prints one JSON line.

usage: python check.py read FOLDER EXPECTED.safetensors
    Loads a folder that we wrote, and compares logits of `ids` [time] with `logits` [time, vocabulary], greedy tokens
    after them with `greedy`, and the values of every matrix with those there. Everything is computed in float16.
usage: python check.py write MODEL FOLDER SCHEME
    Quantizes a model by GPTQModel (SCHEME: JSON of its QuantizeConfig) on a few sequences of made-up tokens and writes
    it, with dense.safetensors: what its kernels dequantize every matrix to.
Needs torch, transformers, safetensors and gptqmodel.
"""

import json
import os
import sys

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
# GPTQModel quantizes on a CPU only where it counts three cores or more.
cores = os.cpu_count() or 1
os.cpu_count = lambda: max(cores, 4)

import torch
from gptqmodel import BACKEND, GPTQModel, QuantizeConfig
from gptqmodel.nn_modules.qlinear import BaseQuantLinear
from gptqmodel.quantization.awq.utils.packing_utils import dequantize_gemm
from safetensors.torch import load_file, save_file


def load(folder):
    with open(f"{folder}/config.json") as file:
        method = json.load(file)["quantization_config"]["quant_method"]
    backend = BACKEND.AWQ_TORCH if method == "awq" else BACKEND.GPTQ_TORCH
    return GPTQModel.load(folder, backend=backend, device="cpu", dtype=torch.float16).model


def quantized(model):
    return {name: m for name, m in model.named_modules() if isinstance(m, BaseQuantLinear)}


def dequantized(module):
    """[out, in], as float32 arithmetic makes it of the codes."""
    module.scales = module.scales.float()
    if "awq" in module.QUANT_TYPE:
        size = module.group_size if module.group_size > 0 else module.in_features
        return dequantize_gemm(module.qweight, module.qzeros, module.scales, module.bits, size).T.contiguous()
    return module.dequantize_weight().T.float().contiguous()


def read(folder, expected):
    tensors = load_file(expected)
    model = load(folder)
    ids = tensors["ids"].long()[None]
    with torch.no_grad():
        logits = model(ids).logits[0].float()
        greedy = model.generate(
            ids, max_new_tokens=len(tensors["greedy"]), do_sample=False, eos_token_id=None, pad_token_id=0
        )[0, ids.shape[1] :]
    difference = logits - tensors["logits"]
    modules = quantized(model)
    names = [name for name in tensors if name not in ("ids", "logits", "greedy")]
    weights = max(
        ((dequantized(modules[name]) - tensors[name]).abs().max() / tensors[name].abs().max()).item()
        for name in names
    )
    return {
        "matrices": len(modules),
        "kernel": type(next(iter(modules.values()))).__name__,
        "worst": (difference.square().mean(-1).sqrt().max() / tensors["logits"].std()).item(),
        "weights": weights,
        "greedy": bool((greedy == tensors["greedy"]).all()),
    }


def write(source, folder, scheme):
    model = GPTQModel.load(source, QuantizeConfig(**json.loads(scheme)), device="cpu")
    vocabulary = model.model.config.vocab_size
    torch.manual_seed(0)
    data = [
        {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        for ids in torch.randint(1, vocabulary, (16, 1, 128))
    ]
    model.quantize(data, batch_size=1)
    model.save(folder)
    again = quantized(load(folder))
    save_file({name: dequantized(module) for name, module in again.items()}, f"{folder}/dense.safetensors")
    return {}


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    print(json.dumps({"read": read, "write": write}[command](*arguments)))
