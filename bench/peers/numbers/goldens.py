"""What PyTorch, torchao and bitsandbytes make of the weight in test/goldens/inputs.safetensors, and of numbers that are
hard to round, in each number format; written to test/goldens/numbers.json.

    pip install torch torchao bitsandbytes safetensors
    python bench/peers/numbers/goldens.py
"""

import base64
import json
from pathlib import Path

import torch
from bitsandbytes.functional import get_4bit_type, quantize_4bit
from safetensors.torch import load_file
from torchao.prototype.mx_formats.config import ScaleCalculationMode
from torchao.prototype.mx_formats.kernels import f4_unpacked_to_f32, f32_to_f4_unpacked
from torchao.prototype.mx_formats.mx_tensor import to_mx
from torchao.prototype.mx_formats.nvfp4_tensor import nvfp4_quantize

goldens = Path(__file__).parents[3] / "test" / "goldens"
weight = load_file(goldens / "inputs.safetensors")["weight"].float().contiguous()
every = torch.arange(256, dtype=torch.uint8)


def packed(tensor):
    return base64.b64encode(tensor.contiguous().view(torch.uint8).numpy().tobytes()).decode()


def hard(values):
    """Numbers to round: the values, what lies halfway, the float32 neighbours of that, and random ones."""
    values = values[torch.isfinite(values)].unique()
    middle = (values[1:] + values[:-1]) / 2
    up = torch.nextafter(middle, torch.tensor(torch.inf))
    down = torch.nextafter(middle, torch.tensor(-torch.inf))
    torch.manual_seed(1)
    drawn = values.max() * (torch.rand(200) * 2 - 1) * 2.0 ** -torch.randint(0, 12, (200,))
    return torch.cat([values, middle, up, down, drawn])


formats = {
    "fp8-e4m3": (
        every.view(torch.float8_e4m3fn).float(),
        lambda x: x.to(torch.float8_e4m3fn).view(torch.uint8),
    ),
    "fp8-e5m2": (
        every.view(torch.float8_e5m2).float(),
        lambda x: x.to(torch.float8_e5m2).view(torch.uint8),
    ),
    "fp4": (f4_unpacked_to_f32(every[:16]), f32_to_f4_unpacked),
}
found = {"values": {}, "rounded": {}, "weight": {}}
for name, (values, rounded) in formats.items():
    found["values"][name] = packed(values)
    some = hard(values)
    found["rounded"][name] = {"numbers": packed(some), "codes": packed(rounded(some))}
found["values"]["nf4"] = packed(get_4bit_type("nf4", device="cpu"))
found["values"]["e8m0"] = packed(every.view(torch.float8_e8m0fnu).float())

rows, columns = weight.shape
for name, dtype in (("mxfp8", torch.float8_e4m3fn), ("mxfp4", torch.float4_e2m1fn_x2)):
    scales, codes = to_mx(weight, dtype, 32, scaling_mode=ScaleCalculationMode.FLOOR)
    found["weight"][name] = {"codes": packed(codes), "scales": packed(scales)}
factor = weight.abs().max() / (448 * 6)
scales, codes = nvfp4_quantize(weight, per_tensor_scale=factor)
found["weight"]["nvfp4"] = {"codes": packed(codes), "scales": packed(scales), "divided": factor.item()}
codes, state = quantize_4bit(weight, blocksize=64, quant_type="nf4")
found["weight"]["nf4"] = {"codes": packed(codes), "scales": packed(state.absmax)}
for name, dtype in (("fp8-e4m3", torch.float8_e4m3fn), ("fp8-e5m2", torch.float8_e5m2)):
    scales = weight.abs().amax(1, keepdim=True) / torch.finfo(dtype).max
    found["weight"][name] = {"codes": packed((weight / scales).to(dtype)), "scales": packed(scales)}

(goldens / "numbers.json").write_text(json.dumps(found) + "\n")
