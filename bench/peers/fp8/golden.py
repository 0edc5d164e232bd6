"""A small matrix in FP8 blocks as transformers dequantizes it: test/goldens/fp8.safetensors.

usage: python golden.py OUT.safetensors
Of each case ("blocks", "blocks, bfloat16 scales", "one scale") weight, weight_scale_inv and "dense", every 16th row of what
transformers.integrations.finegrained_fp8.Fp8Dequantize makes of them in float32. Needs torch, transformers, safetensors.
"""

import sys

import torch
from safetensors.torch import save_file
from transformers.integrations.finegrained_fp8 import Fp8Dequantize

ROWS, COLUMNS, BLOCK = 256, 256, 128

torch.manual_seed(20261201)
weight = torch.randn(ROWS, COLUMNS) * 0.1
blocks = weight.reshape(ROWS // BLOCK, BLOCK, COLUMNS // BLOCK, BLOCK).abs().amax(dim=(1, 3)) / 448
whole = (weight.abs().max() / 448).reshape(1, 1)
dequantize = Fp8Dequantize(None)
tensors = {}
cases = {"blocks": blocks, "blocks, bfloat16 scales": blocks.bfloat16(), "one scale": whole}
for name, scales in cases.items():
    size = [ROWS // scales.shape[0], COLUMNS // scales.shape[1]]
    wide = scales.float().repeat_interleave(size[0], 0).repeat_interleave(size[1], 1)
    codes = (weight / wide).clamp(-448, 448).to(torch.float8_e4m3fn)
    # Every 16th row: the file stays small.
    dense = dequantize._dequantize_one(codes, scales, torch.float32)
    tensors[f"{name}/weight"] = codes
    tensors[f"{name}/weight_scale_inv"] = scales.reshape(()) if name == "one scale" else scales.contiguous()
    tensors[f"{name}/dense"] = dense[::16].contiguous()
save_file(tensors, sys.argv[1])
