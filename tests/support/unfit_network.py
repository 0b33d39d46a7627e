"""A small network of which one layer does not bear int8."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CHANNELS, LAYERS = 32, 5


def network(path, unfit=None, shift=3000):
    """Convolutions of random weights. What the layer ``unfit`` reads has one channel shifted, which its bias takes
    back: in fp32 nothing changes, in int8 the other channels have no more than one of 256 steps, or a few.
    """
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["planes", "scale"], ["x0"]),
    ]
    numbers = {"scale": np.float32(1 / 255), "shift": np.zeros((1, CHANNELS, 1, 1), np.float32)}
    numbers["shift"][0, 0] = shift
    for i in range(LAYERS):
        read = 3 if i == 0 else CHANNELS
        weights = rng.standard_normal((CHANNELS, read, 3, 3)) * np.sqrt(2 / (9 * read))
        source, bias = f"x{i}", np.zeros(CHANNELS)
        if i == unfit:
            nodes.append(helper.make_node("Add", [source, "shift"], ["shifted"], name="shift"))
            source, bias = "shifted", -shift * weights[:, 0].sum((1, 2))
        numbers |= {f"w{i}": weights.astype(np.float32), f"b{i}": bias.astype(np.float32)}
        nodes += [
            helper.make_node("Conv", [source, f"w{i}", f"b{i}"], [f"c{i}"], name=f"conv{i}"),
            helper.make_node("Relu", [f"c{i}"], [f"x{i + 1}"]),
        ]
    nodes.append(helper.make_node("ReduceMean", [f"x{LAYERS}"], ["embeddings"], axes=[2, 3], keepdims=0))
    graph = helper.make_graph(
        nodes, "convolutions", [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["B", 32, 32, 3])],
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["B", CHANNELS])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in numbers.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path
