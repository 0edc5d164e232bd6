"""GPTQModel on the yardstick, our tokens as calibration, in float32. usage: see run.ts

Needs torch, transformers, safetensors and gptqmodel. options: those of its QuantizeConfig, such as {"sym": false},
{"desc_act": true}, {"mse": 2.4}, {"gptaq": {"alpha": 0.25}}, {"method": "awq", "format": "gemm"}; without any they are
its defaults (symmetric, columns ordered by activation within groups, damping 0.05). What it saves is loaded again by
its own code, and that code dequantizes.
"""

import os
import tempfile

# On two cores its own default is fewer workers than it asks for, and it does not start (7.6).
os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")

from common import bits, finish, group, job, load_model, options, sequences, timed

import torch
from gptqmodel import BACKEND, GPTQModel, QuantizeConfig

torch.set_num_threads(job["threads"])
options = dict(options)
if options.get("gptaq"):
    from gptqmodel.quantization.config import GPTAQConfig

    options["gptaq"] = GPTAQConfig(**options["gptaq"])
awq = options.get("method") == "awq"
symmetric = options.get("sym", True)
config = QuantizeConfig(bits=bits, group_size=group, device="cuda:0" if job["device"] == "cuda" else "cpu", offload_to_disk=False, **options)
model = GPTQModel.load(job["base"], config, dtype=torch.float32)
calibration = [{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in sequences()]
with timed():
    model.quantize(calibration, batch_size=4)

with tempfile.TemporaryDirectory() as folder:
    model.save(folder)
    del model
    backend = BACKEND.AWQ_TORCH if awq else BACKEND.GPTQ_TORCH
    loaded = GPTQModel.load(folder, device="cpu", backend=backend, dtype=torch.float16).model
    tensors = load_model().state_dict()
    found = loaded.state_dict()
    for name in tensors:
        if name in found:
            tensors[name] = found[name]
    with torch.no_grad():
        for name, module in loaded.named_modules():
            if not hasattr(module, "qweight"):
                continue
            # x W^T of the identity is W^T, whatever the format; a bias is none here.
            identity = torch.eye(module.in_features, dtype=torch.float16)
            tensors[f"{name}.weight"] = module(identity).float().T
finish(tensors, bits + (16 + (0 if symmetric else bits)) / group, ["gptqmodel", "torch", "transformers"])
