"""Makes test/goldens/scaling.json: scales and clipped ranges that the authors' own code chooses for one matrix.

Usage: python goldens.py AUTOAWQ SMOOTHQUANT OUT.json
AUTOAWQ: a checkout of casper-hansen/AutoAWQ (awq/quantize/quantizer.py; its search without duo scaling is
mit-han-lab/llm-awq's). SMOOTHQUANT: one of mit-han-lab/smoothquant. Needs PyTorch and transformers.
Weights and inputs are made by a formula that the test repeats.
"""

import json
import subprocess
import sys
import types
from pathlib import Path

import torch

autoawq, smoothquant, out = map(Path, sys.argv[1:])
rows, columns, tokens, group = 64, 96, 256, 32


def value(seed, index):
    return ((index * index * 31 + index * 7919 + seed) % 10007) / 10007 - 0.5


def size(column):
    return 12 if column % 16 == 5 else 0.5 + (column % 7) / 4


weight = torch.tensor([[value(1, r * columns + c) for c in range(columns)] for r in range(rows)], dtype=torch.float32)
inputs = torch.tensor(
    [[value(2, t * columns + c) * size(c) for c in range(columns)] for t in range(tokens)], dtype=torch.float32
)


def function(path, stubs):
    """A module from its file, with the rest of its package left out."""
    for name, members in stubs.items():
        module = types.ModuleType(name)
        for member in members:
            setattr(module, member, None)
        sys.modules[name] = module
    scope = {"__name__": "golden"}
    exec(compile(path.read_text(), str(path), "exec"), scope)
    return scope


def commit(folder):
    return subprocess.check_output(["git", "-C", folder, "rev-parse", "HEAD"], text=True).strip()


quantizer = function(
    autoawq / "awq/quantize/quantizer.py",
    {
        "awq": [],
        "awq.utils": [],
        "awq.utils.calib_data": ["get_calib_dataset"],
        "awq.quantize": [],
        "awq.quantize.scale": ["apply_scale", "apply_clip"],
        "awq.utils.utils": ["clear_memory", "get_best_device"],
        "awq.modules": [],
        "awq.modules.linear": ["WQLinear_GEMM", "WQLinear_GEMV", "WQLinear_Marlin", "WQLinear_GEMVFast"],
        "awq.utils.module": [
            "append_str_prefix",
            "get_op_name",
            "get_named_linears",
            "set_op_by_name",
            "exclude_layers_to_not_quantize",
        ],
    },
)
quantizer["clear_memory"] = lambda *_: None
quantizer["get_op_name"] = lambda *_: ""


class Kept(torch.nn.Linear):
    """Its state is a copy, as it is where the model is on a GPU; on the CPU the search would work on what it restores."""

    def state_dict(self, *args, **kwargs):
        return {name: value.clone() for name, value in super().state_dict(*args, **kwargs).items()}


def linear():
    layer = Kept(columns, rows, bias=False)
    layer.weight.data = weight.clone()
    layer.weight.requires_grad_(False)
    return layer


def awq(bits, duo):
    search = object.__new__(quantizer["AwqQuantizer"])
    search.w_bit, search.group_size, search.zero_point, search.duo_scaling = bits, group, True, duo
    search.max_chunk_memory, search.n_parallel_calib_samples = 2**30, None
    _, _, scales = search._search_best_scale(None, None, [linear()], inputs.clone())
    ranges = search._compute_best_clip(weight * scales, inputs / scales)
    return {"bits": bits, "duo": duo, "scales": scales.tolist(), "ranges": ranges.squeeze(-1).tolist()}


def smooth(alpha):
    norm, layer = torch.nn.LayerNorm(columns), linear()
    smooth_ln_fcs = function(smoothquant / "smoothquant/smooth.py", {})["smooth_ln_fcs"]
    smooth_ln_fcs(norm, [layer], inputs.abs().amax(0), alpha)
    return {"alpha": alpha, "scales": (1 / norm.weight).tolist()}


def rounded(numbers):
    return json.loads(json.dumps(numbers), parse_float=lambda text: float(f"{float(text):.7g}"))


result = {
    "sources": {"AutoAWQ": commit(autoawq), "smoothquant": commit(smoothquant)},
    "awq": [awq(bits, duo) for bits in (3, 4) for duo in (False, True)],
    "smoothquant": [smooth(alpha) for alpha in (0.5, 0.75)],
}
out.write_text(json.dumps(rounded(result)) + "\n")
for case in result["awq"]:
    scales = torch.tensor(case["scales"])
    print(case["bits"], case["duo"], scales.max(), scales[5], scales[6])
