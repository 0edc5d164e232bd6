"""Small matrices as GPTQModel and mlx pack them, with the values that they dequantize to, for our tests.

usage: python golden.py test/goldens/checkpoints.json
Needs torch, gptqmodel and mlx.
"""

import base64
import json
import os
import sys

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import mlx.core as mx
import numpy as np
import torch
from gptqmodel.nn_modules.qlinear.torch import TorchLinear
from gptqmodel.nn_modules.qlinear.torch_awq import AwqTorchLinear
from gptqmodel.quantization.awq.utils.packing_utils import dequantize_gemm

ROWS, COLUMNS, GROUP = 32, 64, 32
torch.manual_seed(0)


def grid(weight, bits, group_index, groups):
    """Scales and zero points [out, groups] of asymmetric integers."""
    scales, zeros = torch.empty(ROWS, groups), torch.empty(ROWS, groups)
    for group in range(groups):
        part = weight[:, group_index == group]
        low, high = part.amin(1).clamp(max=0), part.amax(1).clamp(min=0)
        scales[:, group] = ((high - low) / (2**bits - 1)).half().float()
        zeros[:, group] = torch.round(-low / scales[:, group])
    return scales, zeros


def linear(weight):
    module = torch.nn.Linear(COLUMNS, ROWS, bias=False)
    module.weight.data = weight.clone()
    return module


def stored(array):
    """Bytes in base64, little-endian."""
    array = np.ascontiguousarray(array)
    text = base64.b64encode(array.tobytes()).decode()
    return {"dtype": str(array.dtype), "shape": list(array.shape), "bytes": text}


def gptq(bits, act_order):
    weight = torch.randn(ROWS, COLUMNS)
    order = torch.randperm(COLUMNS) if act_order else torch.arange(COLUMNS)
    group_index = torch.empty(COLUMNS, dtype=torch.int32)
    group_index[order] = (torch.arange(COLUMNS) // GROUP).int()
    scales, zeros = grid(weight, bits, group_index, COLUMNS // GROUP)
    module = TorchLinear(
        bits=bits, group_size=GROUP, sym=False, desc_act=act_order, in_features=COLUMNS, out_features=ROWS,
        bias=False, register_buffers=True,
    )
    module.pack_original(linear(weight), scales, zeros, group_index)
    module.post_init()
    module.scales = module.scales.float()
    dense = module.dequantize_weight().T
    module.scales = module.scales.half()
    names = ["qweight", "qzeros", "scales", "g_idx"]
    return {
        "bits": bits,
        "order": "act-order" if act_order else "in order",
        "tensors": {name: stored(getattr(module, name)) for name in names},
        "dense": stored(dense),
    }


def awq():
    weight = torch.randn(ROWS, COLUMNS)
    scales, zeros = grid(weight, 4, torch.arange(COLUMNS) // GROUP, COLUMNS // GROUP)
    module = AwqTorchLinear(
        bits=4, group_size=GROUP, sym=False, desc_act=False, in_features=COLUMNS, out_features=ROWS, bias=False,
        register_buffers=True,
    )
    module.pack(linear(weight), scales.half(), zeros)
    dense = dequantize_gemm(module.qweight, module.qzeros, module.scales.float(), 4, GROUP).T
    names = ["qweight", "qzeros", "scales"]
    return {
        "tensors": {name: stored(getattr(module, name)) for name in names},
        "dense": stored(dense),
    }


def mlx(bits):
    weight = mx.array(np.random.default_rng(bits).normal(size=(4, COLUMNS)).astype(np.float16))
    codes, scales, biases = mx.quantize(weight, group_size=GROUP, bits=bits)
    dense = mx.dequantize(codes, scales.astype(mx.float32), biases.astype(mx.float32), GROUP, bits)
    return {
        "bits": bits,
        "tensors": {"weight": stored(codes), "scales": stored(scales), "biases": stored(biases)},
        "dense": stored(dense),
    }


if __name__ == "__main__":
    found = {
        "group": GROUP,
        "gptq": [gptq(bits, False) for bits in (2, 3, 4, 8)] + [gptq(4, True)],
        "awq": awq(),
        "mlx": [mlx(bits) for bits in (2, 3, 4, 6, 8)],
    }
    with open(sys.argv[1], "w") as file:
        json.dump(found, file)
        file.write("\n")
