"""The compressed-tensors library beside ours; prints one JSON line.

usage: python check.py read FOLDER EXPECTED.safetensors
    Loads a folder that we wrote with transformers, which decompresses it by this library, and compares logits of
    `ids` [time] with `logits` [time, vocabulary], and greedy tokens after them with `greedy`; and the values of every
    matrix with those there.
usage: python check.py write MODEL FOLDER SCHEME
    Quantizes a model by this library (SCHEME: one of its presets, or JSON of its arguments) and writes it, with
    dense.safetensors: what its decompressor makes of every matrix.
Needs torch, transformers, safetensors and compressed-tensors.
"""

import json
import sys

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, CompressedTensorsConfig


def read(folder, expected):
    tensors = load_file(expected)
    model, route = load(folder)
    ids = tensors["ids"].long()[None]
    with torch.no_grad():
        try:
            logits = model(ids).logits[0]
        except RuntimeError:
            # Its decompressor makes bfloat16 of small floats, whatever the model computes in.
            route += ", widened"
            logits = torch.nn.Module.float(model)(ids).logits[0]
        greedy = model.generate(
            ids, max_new_tokens=len(tensors["greedy"]), do_sample=False, eos_token_id=None, pad_token_id=0
        )[0, ids.shape[1] :]
    difference = (logits - tensors["logits"]).float()
    modules = dict(model.named_modules())
    weights = max(
        (modules[name].weight - values).abs().max().item() / values.abs().max().item()
        for name, values in tensors.items()
        if name in modules
    )
    return {
        "worst": (difference.square().mean(-1).sqrt().max() / tensors["logits"].std()).item(),
        "weights": weights,
        "route": route,
        "greedy": bool((greedy == tensors["greedy"]).all()),
    }


def load(folder):
    """Compressed, as most do; compressed-tensors 0.20 makes no room for packed zero points there, dequantized it reads them."""
    try:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), "compressed"
    except RuntimeError:
        config = CompressedTensorsConfig(dequantize=True)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, quantization_config=config)
        return model, "dequantized"


def write(source, folder, scheme):
    from compressed_tensors.compressors import ModelCompressor, decompress_module
    from compressed_tensors.quantization import QuantizationConfig, apply_quantization_config
    from compressed_tensors.quantization import preset_name_to_scheme
    from compressed_tensors.quantization.quant_scheme import is_preset_scheme

    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    if is_preset_scheme(scheme):
        group = preset_name_to_scheme(scheme, ["Linear"])
    else:
        group = {"targets": ["Linear"], **json.loads(scheme)}
    config = QuantizationConfig(config_groups={"group_0": group}, ignore=["lm_head"])
    apply_quantization_config(model, config)
    quantized = {name: m for name, m in model.named_modules() if hasattr(m, "quantization_scheme")}
    for module in quantized.values():
        fit(module)
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    model.save_pretrained(folder)
    compressor.update_config(folder)
    for module in quantized.values():
        decompress_module(module)
    dense = {name: m.weight.detach().float().contiguous() for name, m in quantized.items()}
    save_file(dense, f"{folder}/dense.safetensors")
    return {"matrices": len(dense)}


def fit(module):
    """Scales by the range of all values."""
    from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam

    arguments = module.quantization_scheme.weights
    weight = module.weight.detach()
    rows, columns = weight.shape
    if arguments.strategy == "block":
        height, width = arguments.block_structure
        blocks = weight.reshape(rows // height, height, columns // width, width)
        groups = blocks.transpose(1, 2).reshape(rows // height, columns // width, height * width)
    else:
        shape = {
            "group": (rows, -1, arguments.group_size or columns),
            "tensor_group": (rows, -1, arguments.group_size or columns),
            "channel": (rows, 1, columns),
            "tensor": (1, 1, rows * columns),
        }[arguments.strategy]
        groups = weight.reshape(shape)
    factor = None
    if arguments.strategy == "tensor_group":
        factor = generate_gparam(weight.min(), weight.max()).reshape(1)
        module.weight_global_scale.data.copy_(factor)
    scale, zero = calculate_qparams(groups.amin(-1), groups.amax(-1), arguments, global_scale=factor)
    module.weight_scale.data.copy_(scale.reshape(module.weight_scale.shape))
    if hasattr(module, "weight_zero_point"):
        module.weight_zero_point.data.copy_(zero.reshape(module.weight_zero_point.shape))
    for name in ("input_scale", "input_global_scale"):
        if hasattr(module, name):
            getattr(module, name).data.fill_(0.05)


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    print(json.dumps({"read": read, "write": write}[command](*arguments)))
