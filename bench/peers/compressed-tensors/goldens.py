"""One small matrix in every scheme, as the compressed-tensors library stores it: test/goldens/compressed-tensors.safetensors.

usage: python goldens.py OUT.safetensors
Of every scheme the tensors that it writes and "dense", what its decompressor makes of them; the schemes are in the file's
metadata, as config.json has them. Needs torch, safetensors, transformers and compressed-tensors.
"""

import json
import sys

import torch
from check import fit
from compressed_tensors.compressors import compress_module, decompress_module
from compressed_tensors.quantization import QuantizationConfig, apply_quantization_config, preset_name_to_scheme
from safetensors.torch import save_file

ROWS, COLUMNS = 12, 128

presets = ["W8A8", "W4A8", "FP8", "FP8_DYNAMIC", "NVFP4A16", "MXFP4A16", "MXFP8A16"]
groups = {
    "4 bits, groups of 32": {"num_bits": 4, "strategy": "group", "group_size": 32},
    "4 bits, zero points": {"num_bits": 4, "strategy": "group", "group_size": 64, "symmetric": False},
    "3 bits": {"num_bits": 3, "strategy": "group", "group_size": 32},
    "2 bits, rows": {"num_bits": 2, "strategy": "channel"},
    "8 bits, rows, zero points": {"num_bits": 8, "strategy": "channel", "symmetric": False},
    "FP8, blocks": {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [4, 64]},
}
schemes = {name: preset_name_to_scheme(name, ["Linear"]) for name in presets}
schemes |= {name: {"targets": ["Linear"], "weights": weights} for name, weights in groups.items()}

torch.manual_seed(20261124)
weight = torch.randn(ROWS, COLUMNS) * 0.1
tensors, metadata = {}, {}
for name, scheme in schemes.items():
    model = torch.nn.Sequential(torch.nn.Linear(COLUMNS, ROWS, bias=False))
    model[0].weight.data = weight.clone()
    apply_quantization_config(model, QuantizationConfig(config_groups={"group_0": scheme}))
    fit(model[0])
    compress_module(model[0])
    scheme = model[0].quantization_scheme
    metadata[name] = json.dumps(scheme.model_dump(exclude_none=True, mode="json"))
    stored = {key: value.detach().clone().contiguous() for key, value in model[0].state_dict().items()}
    decompress_module(model[0])
    stored["dense"] = model[0].weight.detach().float().contiguous()
    tensors |= {f"{name}/{key}": value for key, value in stored.items()}
save_file(tensors, sys.argv[1], metadata=metadata)
