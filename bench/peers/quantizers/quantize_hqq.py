"""hqq (Badri and Shaji) on the yardstick: needs no data; scales and zero points are float16. usage: see run.ts

Needs torch, transformers, safetensors and hqq. Groups lie along rows (axis 1), as engines' formats have them.
"""

from common import bits, finish, group, is_quantized, load_model, timed

import torch
from hqq.core.quantize import Quantizer

tensors = load_model().state_dict()
with torch.no_grad():
    with timed():
        quantized = {
            name: Quantizer.quantize(tensor, nbits=bits, group_size=group, axis=1, device="cpu", bitpack=bits != 3)
            for name, tensor in tensors.items()
            if is_quantized(name)
        }
    for name, (codes, meta) in quantized.items():
        stored = {key: meta[key].half().float() for key in ("scale", "zero")}
        tensors[name] = Quantizer.dequantize(codes, {**meta, **stored, "compute_dtype": torch.float32})
finish(tensors, bits + 32 / group, ["hqq", "torch"])
