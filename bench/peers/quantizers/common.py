"""What the peers' scripts share: the job, the measured part, and the dequantized weights as our evaluation opens them."""

import contextlib
import json
import os
import resource
import sys
import time

job = json.load(open(sys.argv[1]))
if job["device"] == "cpu":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", str(job["threads"]))

bits, group, options = job["bits"], job["group"], job["options"]
measured = {}


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def cpu():
    own = resource.getrusage(resource.RUSAGE_SELF)
    return own.ru_utime + own.ru_stime


@contextlib.contextmanager
def timed():
    """Around the quantization alone."""
    measured["loadedBytes"] = peak()
    start, start_cpu = time.perf_counter(), cpu()
    yield
    measured["seconds"] = round(time.perf_counter() - start, 2)
    measured["cpuSeconds"] = round(cpu() - start_cpu, 2)
    measured["peakBytes"] = peak()


def sequences():
    """Token ids [64][512]."""
    return json.load(open(job["tokens"]))


def is_quantized(name):
    return name.startswith("model.layers.") and name.endswith("proj.weight")


def load_model(device="cpu", dtype="float32"):
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(job["threads"])
    return AutoModelForCausalLM.from_pretrained(job["base"], dtype=getattr(torch, dtype)).eval().to(device)


def finish(tensors, bits_per_weight, packages):
    """Saves all weights by their names in the base, and answers.

    bits_per_weight: of the matrices of the blocks, what the peer's format stores: codes, scales and zero points.
    """
    from importlib.metadata import version

    import torch
    from safetensors.torch import save_file

    tensors = {
        name: tensor.detach().to("cpu", torch.float32).contiguous().clone()
        for name, tensor in tensors.items()
        if name != "lm_head.weight"
    }
    save_file(tensors, os.path.join(job["out"], "model.safetensors"), metadata={"format": "pt"})
    count = sum(tensor.numel() for name, tensor in tensors.items() if is_quantized(name))
    answer = {
        "bytes": round(count * bits_per_weight / 8),
        "bitsPerWeight": bits_per_weight,
        **measured,
        "versions": {package: version(package) for package in packages},
    }
    with open(job["answer"], "w") as file:
        json.dump(answer, file)
