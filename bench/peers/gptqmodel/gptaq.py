"""What GPTQModel's GPTAQ (adapted from its authors' code) makes of a small layer, for our tests.

usage: python gptaq.py test/goldens/gptaq.safetensors
Needs torch, safetensors and gptqmodel. Inputs of the compressed model are those of the original, rounded and with noise.
"""

import os
import sys

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import torch
from gptqmodel import QuantizeConfig
from gptqmodel.looper.named_module import NamedModule
from gptqmodel.looper.native_processor import NATIVE_INPUTS_STATE_KEY
from gptqmodel.quantization.config import GPTAQConfig
from gptqmodel.quantization.gptaq import GPTAQ
from safetensors.torch import save_file

ROWS, COLUMNS, TOKENS = 24, 64, 256
torch.manual_seed(0)
mix = torch.randn(COLUMNS, COLUMNS) / 8 + torch.diag(torch.rand(COLUMNS) * 2)
original = torch.randn(TOKENS, COLUMNS) @ mix
inputs = torch.round(original * 2) / 2 + 0.2 * torch.randn(TOKENS, COLUMNS)
weight = torch.randn(ROWS, COLUMNS) * 0.05
tensors = {"weight": weight, "original": original, "inputs": inputs}
for bits in (2, 3, 4):
    for alpha in (0.0, 0.25, 1.0):
        module = torch.nn.Linear(COLUMNS, ROWS, bias=False)
        module.weight.data = weight.clone()
        named = NamedModule(module, name="layer", full_name="layer", layer_index=0)
        named.state[NATIVE_INPUTS_STATE_KEY] = [original.clone()[None]]
        config = QuantizeConfig(
            bits=bits, group_size=COLUMNS, sym=False, desc_act=False, act_group_aware=False, damp_percent=0.01,
            device="cpu", gptaq=GPTAQConfig(alpha=alpha), static_groups=True,
        )
        method = GPTAQ(named, config)
        method.quantizer.configure(perchannel=True)
        method.add_batch(inputs.clone()[None], None)
        tensors[f"quantized.{bits}.{alpha}"] = method.quantize()[0].detach().float().contiguous()
save_file(tensors, sys.argv[1])
for name, value in tensors.items():
    if name.startswith("quantized"):
        error = (original @ weight.T - inputs @ value.T).pow(2).sum() / (original @ weight.T).pow(2).sum()
        print(name, float(error))
