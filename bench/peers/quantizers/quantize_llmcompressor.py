"""llm-compressor on the yardstick, our tokens as calibration, in float32. usage: see run.ts

Needs torch, transformers, safetensors and llmcompressor. options: {"method": "rtn" | "gptq" | "awq",
"symmetric": bool, "observer": "minmax" | "mse", ...}; what else stands there goes to the method's modifier, whose
defaults it keeps (GPTQ: static activation order, damping 0.01; AWQ: 20 steps of grid, duo scaling).
"""

from common import bits, finish, group, is_quantized, job, load_model, options, sequences, timed

import torch
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.quantization.lifecycle.forward import fake_quantize
from datasets import Dataset
from llmcompressor import oneshot
from llmcompressor.modifiers.gptq import GPTQModifier
from llmcompressor.modifiers.quantization import QuantizationModifier
from llmcompressor.modifiers.transform.awq import AWQModifier

if job["device"] == "cpu":
    # AWQ pins memory for a device that is not there (0.14).
    torch.Tensor.pin_memory = lambda self: self
options = dict(options)
method, symmetric = options.pop("method", "gptq"), options.pop("symmetric", True)
weights = QuantizationArgs(
    num_bits=bits,
    type="int",
    symmetric=symmetric,
    strategy="group",
    group_size=group,
    observer=options.pop("observer", None),
)
scheme = {
    "config_groups": {"group_0": QuantizationScheme(targets=["Linear"], weights=weights)},
    "ignore": ["lm_head"],
}
recipe = {
    "rtn": lambda: [QuantizationModifier(**scheme)],
    "gptq": lambda: [GPTQModifier(**scheme, **options)],
    "awq": lambda: [AWQModifier(**options), QuantizationModifier(**scheme)],
}[method]()
model = load_model(job["device"])
ids = sequences()
data = Dataset.from_dict({"input_ids": ids, "attention_mask": [[1] * len(each) for each in ids]})
with timed():
    oneshot(
        model=model,
        dataset=data,
        recipe=recipe,
        max_seq_length=len(ids[0]),
        num_calibration_samples=len(ids),
        shuffle_calibration_samples=False,
    )

tensors = {}
with torch.no_grad():
    found = 0
    for name, module in model.named_modules():
        for own, parameter in module.named_parameters(recurse=False):
            full = f"{name}.{own}"
            if is_quantized(full):
                found += 1
                arguments = module.quantization_scheme.weights
                scale = module.weight_scale.half().float()
                zero = getattr(module, "weight_zero_point", None)
                parameter = fake_quantize(parameter.float(), scale, zero, arguments)
            elif own.startswith("weight_") or own.startswith("input_"):
                continue
            tensors[full] = parameter
    # Transforms may untie the head.
    head = model.lm_head.weight
    assert torch.equal(head, model.model.embed_tokens.weight)
    assert found == sum(is_quantized(name) for name in load_model().state_dict()), found
finish(tensors, bits + (16 + (0 if symmetric else bits)) / group, ["llmcompressor", "torch", "transformers"])
