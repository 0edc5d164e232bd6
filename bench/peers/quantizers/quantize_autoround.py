"""auto-round on the yardstick, our tokens as calibration. usage: see run.ts

Needs torch, transformers, safetensors and auto-round. options: {"iters": 200, "sym": true, "batch_size": 8, ...}, those
of its AutoRound.
"""

from common import bits, finish, group, job, load_model, options, sequences, timed

import torch
from auto_round import AutoRound
from transformers import AutoTokenizer

options = dict(options)
symmetric = options.setdefault("sym", True)
ids = sequences()
model = load_model()
tokenizer = AutoTokenizer.from_pretrained(job["base"])
data = [torch.tensor([each]) for each in ids]
rounder = AutoRound(
    model,
    tokenizer,
    bits=bits,
    group_size=group,
    dataset=data,
    nsamples=len(ids),
    seqlen=len(ids[0]),
    device_map="cuda:0" if job["device"] == "cuda" else "cpu",
    low_gpu_mem_usage=False,
    **options,
)
with timed():
    found = rounder.quantize()
model = found[0] if isinstance(found, tuple) else found
tensors = {name: tensor for name, tensor in model.state_dict().items() if name.endswith("weight")}
tensors = {name.replace(".orig_layer", ""): tensor for name, tensor in tensors.items()}
finish(tensors, bits + (16 + (0 if symmetric else bits)) / group, ["auto-round", "torch", "transformers"])
