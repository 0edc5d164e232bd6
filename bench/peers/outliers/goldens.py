"""
What the authors' code of OWQ and SpQR makes of test/goldens/inputs.safetensors: relative output errors
|X(W'-W)^T| / |X W^T|, and what was kept, into test/goldens/outliers.json.

    python bench/peers/outliers/goldens.py OWQ_FOLDER SPQR_FOLDER

Folders are checkouts of xvyaward/owq@03cfc99 and Vahe1994/SpQR@543d10e; needs torch, safetensors, transformers and tqdm.
"""

import json
import os
import sys

import torch
from safetensors.torch import load_file

owq_folder, spqr_folder = sys.argv[1:3]
goldens = os.path.join(os.path.dirname(__file__), "../../../test/goldens")
tensors = load_file(os.path.join(goldens, "inputs.safetensors"))
weight, x = tensors["weight"], tensors["inputs"]
rows, columns = weight.shape
whole = torch.linalg.norm(x @ weight.T)


def error(found):
    return (torch.linalg.norm(x @ (found - weight).T) / whole).item()


def linear():
    layer = torch.nn.Linear(columns, rows, bias=False)
    layer.weight.data = weight.clone()
    return layer


def owq(bits, kept, group):
    # A name that newer versions of transformers do not have, and that only Falcon models need.
    import transformers.models.falcon.modeling_falcon as falcon

    falcon.FalconLinear = getattr(falcon, "FalconLinear", torch.nn.Linear)
    torch.cuda.synchronize = lambda: None
    from owq.quant import Quantizer
    from owq.recon import GPTQ_OWQ

    layer = linear()
    method = GPTQ_OWQ(layer, kept)
    method.quantizer = Quantizer(bits, perchannel=True, sym=False, mse=True)
    method.add_batch(x.unsqueeze(0), None)
    rounder = Quantizer(bits, perchannel=True, sym=False, mse=True)
    rounder.find_params(weight, weight=True, num=40)
    cost = (weight - rounder.quantize(weight)).pow(2).sum(dim=0)
    chosen = method.hessian_sorting(actorder=False, frob_norm=cost)
    method.fasterquant(groupsize=group)
    return {"error": error(layer.weight.data), "columns": sorted(chosen.tolist())}


def spqr(bits, group, threshold, second):
    from spqr_engine import SPQRUtil

    layer = linear()
    method = SPQRUtil(layer)
    method.add_batch(x.unsqueeze(0))
    found = method.quantize(
        bits=bits,
        groupsize=group,
        outlier_relative_threshold=threshold,
        qq_scale_bits=3 if second else None,
        qq_zero_bits=3 if second else None,
        qq_groupsize=16,
        verbose=False,
    )
    share = found.unstructured_outlier_mask.float().mean().item()
    return {"error": error(found.weight), "share": share}


sys.path[:0] = [owq_folder, spqr_folder]
result = {}
for bits in (3, 4):
    result[f"owq {bits} 32"] = owq(bits, 4, 32)
    result[f"spqr {bits} 16"] = spqr(bits, 16, 0.2, False)
    result[f"spqr {bits} 16 second"] = spqr(bits, 16, 0.2, True)
with open(os.path.join(goldens, "outliers.json"), "w") as file:
    json.dump(result, file, indent=2)
    file.write("\n")
