"""Times the GPTQ authors' own code (IST-DASLab/gptq) on a saved layer; prints one JSON line.

usage: python authors.py AUTHORS_FOLDER LAYER.safetensors RESULT.safetensors BITS GROUP REPEATS
Needs torch, transformers and safetensors. The layer holds `weight` [out, in] and `hessian` [in, in].
"""

import contextlib
import io
import json
import sys
import time

import torch
from safetensors.torch import load_file, save_file

folder, layer, result, bits, group, repeats = sys.argv[1:]
sys.path.insert(0, folder)
# The authors end their timing with it; without a GPU there is nothing to wait for.
torch.cuda.synchronize = lambda: None
with contextlib.redirect_stdout(io.StringIO()):
    import gptq
    import quant

tensors = load_file(layer)
weight, hessian = tensors["weight"], tensors["hessian"]
seconds = []
for _ in range(int(repeats)):
    linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    linear.weight.data = weight.clone()
    job = gptq.GPTQ(linear)
    job.H = hessian.clone()
    job.quantizer = quant.Quantizer()
    job.quantizer.configure(int(bits), perchannel=True, sym=False, mse=False)
    with contextlib.redirect_stdout(io.StringIO()):
        start = time.perf_counter()
        job.fasterquant(groupsize=int(group))
        seconds.append(time.perf_counter() - start)
save_file({"weight": linear.weight.data.contiguous()}, result)
print(json.dumps({"seconds": seconds, "torch": torch.__version__, "threads": torch.get_num_threads()}))
