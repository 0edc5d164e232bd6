"""onnxruntime's own MatMulNBits quantizers on the yardstick: they need no data. usage: see run.ts

Needs torch, transformers, safetensors, onnx and onnxruntime. options: {"algorithm": "default" | "rtn" | "k_quant" |
"hqq", "symmetric": bool}; symmetric is for default alone. The graph holds the blocks' matrices and nothing else.
rtn and k_quant end with an error where a row has an odd number of groups (1.32), as 576 inputs have with groups of 64.
"""

from common import bits, finish, group, is_quantized, load_model, options, timed

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import matmul_nbits_quantizer as ort

algorithm, symmetric = options.get("algorithm", "default"), options.get("symmetric", False)
tensors = load_model().state_dict()
names = [name for name in tensors if is_quantized(name)]


def graph():
    nodes, inputs, outputs, weights = [], [], [], []
    for name in names:
        rows, columns = tensors[name].shape
        # Rank 3: for other ranks the quantizer adds a reshape.
        inputs.append(helper.make_tensor_value_info(f"{name}.x", TensorProto.FLOAT, [1, 1, columns]))
        outputs.append(helper.make_tensor_value_info(f"{name}.y", TensorProto.FLOAT, [1, 1, rows]))
        weights.append(numpy_helper.from_array(np.ascontiguousarray(tensors[name].numpy().T), name))
        nodes.append(helper.make_node("MatMul", [f"{name}.x", name], [f"{name}.y"], name=name))
    made = helper.make_graph(nodes, "matrices", inputs, outputs, weights)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def configuration():
    if algorithm == "default":
        return ort.DefaultWeightOnlyQuantConfig(block_size=group, is_symmetric=symmetric, bits=bits)
    if algorithm == "hqq":
        return ort.HQQWeightOnlyQuantConfig(block_size=group, bits=bits)
    kind = {"rtn": ort.RTNWeightOnlyQuantConfig, "k_quant": ort.KQuantWeightOnlyQuantConfig}[algorithm]
    # Their bits and block size are chosen by name of the node.
    return kind(customized_weight_config={name: {"bits": bits, "group_size": group} for name in names})


model = graph()
with timed():
    quantizer = ort.MatMulNBitsQuantizer(
        model, bits=bits, block_size=group, is_symmetric=symmetric, algo_config=configuration()
    )
    quantizer.process()
made = quantizer.model.model
stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
found, size = 0, 0
for node in made.graph.node:
    if node.op_type != "MatMulNBits":
        continue
    found += 1
    name = node.input[0].removesuffix(".x")
    attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    rows, columns, block = attributes["N"], attributes["K"], attributes["block_size"]
    assert (attributes["bits"], block) == (bits, group), attributes
    per = 8 // bits
    unpack = lambda packed: np.stack([packed >> (bits * i) & (2**bits - 1) for i in range(per)], -1)
    codes = unpack(stored[node.input[1]]).reshape(rows, -1, block).astype(np.float32)
    # Engines keep scales in float16 where activations are.
    scales = stored[node.input[2]].astype(np.float16).astype(np.float32).reshape(rows, -1, 1)
    zeros = np.float32(2 ** (bits - 1))
    if len(node.input) > 3 and node.input[3]:
        zeros = stored[node.input[3]]
        if zeros.dtype == np.uint8:
            zeros = unpack(zeros.reshape(rows, -1)).reshape(rows, -1)[:, : scales.shape[1]]
        zeros = zeros.astype(np.float32).reshape(rows, -1, 1)
    tensors[name] = torch.from_numpy(((codes - zeros) * scales).reshape(rows, -1)[:, :columns].copy())
assert found == len(names), f"{found} of {len(names)} matrices were quantized"
zero_bits = 0 if symmetric else 16 if algorithm == "hqq" else bits
finish(tensors, bits + (16 + zero_bits) / group, ["onnxruntime", "onnx"])
