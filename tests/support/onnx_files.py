"""ONNX files as ultralytics, timm and RF-DETR export them, small; and what an import makes of one."""

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tritonvision.exporters.packages.description import Description
from tritonvision.exporters.packages.onnx_file import OnnxFile
from tritonvision.exporters.packages.options import FileOptions

ID, SIDE, CELLS = "mine/3", 64, 64
COCO3 = "{0: 'person', 1: 'dog', 2: 'traffic light'}"
PREPARED = {"resize": "crop-95-bicubic", "normalize": "imagenet"}  # as a classifier of timm wants its pictures
BY_ULTRALYTICS = {"task": "detect", "names": COCO3, "stride": "32", "imgsz": "[64, 64]"}


def graph(path, text, tensors, metadata=None, **options):
    """Write a graph in ONNX's text form, with its weights by name and what its exporter says of it."""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]>\n{text}')
    rng = np.random.default_rng(0)
    for name, value in tensors.items():
        array = rng.normal(0, 0.05, value).astype(np.float32) if isinstance(value, tuple) else np.asarray(value)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    helper.set_model_props(model, metadata or {})
    onnx.save(model, path, **options)
    return path


def yolo(path, classes=3, metadata=None, axes=f"1,3,{SIDE},{SIDE}", **options):
    """Boxes around the cells of a grid, scored by what is in them: ``[N, 4 + classes, 64]``."""
    y, x = np.mgrid[:8, :8]
    boxes = np.stack([x * 8 + 4, y * 8 + 4, 10 + x, 12 - y]).reshape(1, 4, CELLS).astype(np.float32)
    text = f"""detector (float[{axes}] images) => (float[N,{4 + classes},A] output0) {{
      maps = Conv<kernel_shape=[8,8], strides=[8,8]>(images, kernels)
      flat = Reshape(maps, rows)
      scores = Sigmoid(flat)
      least = ReduceMin<axes=[1], keepdims=1>(scores)
      nothing = Sub(least, least)
      placed = Add(boxes, nothing)
      output0 = Concat<axis=1>(placed, scores)
    }}"""
    tensors = {"kernels": (classes, 3, 8, 8), "rows": np.array([0, classes, -1]), "boxes": boxes}
    return graph(path, text, tensors, metadata, **options)


def final(path, suppressed=False, masks=False, threshold=0.1, metadata=None):
    """As of :func:`yolo`, the 20 best boxes, corners first, each with its score and class: ``[N, 20, 6]``.

    Args:
        suppressed: whether non-maximum suppression with ``threshold`` of the scores is inside; rows of zeros follow.
        masks: whether there are mask coefficients and prototypes.
    """
    y, x = np.mgrid[:8, :8]
    middles = np.stack([x * 8 + 4, y * 8 + 4], -1).reshape(CELLS, 2)
    boxes = np.concatenate([middles - 7, middles + 9], 1).astype(np.float32)
    best = """
      selected = NonMaxSuppression(every, scores, most, overlap, threshold)
      score = GatherND(scores, selected)
      kind = Gather<axis=1>(selected, one)
      place = Gather<axis=1>(selected, two)
      corners = Gather<axis=0>(boxes, place)
      kinds = Cast<to=1>(kind)
      flat_score = Unsqueeze(score, last)
      flat_kind = Unsqueeze(kinds, last)
      found = Concat<axis=1>(corners, flat_score, flat_kind)
      padded = Concat<axis=0>(found, nothing)
      cut = Slice(padded, from, most, from)
      rows = Unsqueeze(cut, from)""" if suppressed else """
      top = ReduceMax<axes=[1], keepdims=0>(scores)
      every_kind = ArgMax<axis=1, keepdims=0>(scores)
      score, place = TopK<axis=1>(top, most)
      kind = GatherElements<axis=1>(every_kind, place)
      corners = Gather<axis=0>(boxes, place)
      kinds = Cast<to=1>(kind)
      wide = Constant<value = int64[1] {2}>()
      flat_score = Unsqueeze(score, wide)
      flat_kind = Unsqueeze(kinds, wide)
      rows = Concat<axis=2>(corners, flat_score, flat_kind)"""  # fmt: skip
    ends = """
      output1 = Conv<kernel_shape=[4,4], strides=[4,4]>(images, small)
      squeezed = ReduceMean<axes=[2,3], keepdims=1>(output1)
      weights = Reshape(squeezed, spread)
      many = Expand(weights, size)
      output0 = Concat<axis=2>(rows, many)""" if masks else "\n      output0 = Identity(rows)"  # fmt: skip
    shape = f"float[N,20,{38 if masks else 6}] output0" + (", float[N,32,16,16] output1" if masks else "")
    text = f"""detector (float[1,3,{SIDE},{SIDE}] images) => ({shape}) {{
      maps = Conv<kernel_shape=[8,8], strides=[8,8]>(images, kernels)
      flat = Reshape(maps, three)
      scores = Sigmoid(flat){best}{ends}
    }}"""
    tensors = {
        "kernels": (3, 3, 8, 8), "three": np.array([0, 3, -1]), "boxes": boxes, "most": np.array([20]),
    }  # fmt: skip
    if suppressed:
        tensors |= {
            "every": boxes[None], "overlap": np.float32([0.2]), "threshold": np.float32([threshold]),
            "one": np.array(1), "two": np.array(2), "last": np.array([1]), "from": np.array([0]),
            "nothing": np.zeros((20, 6), np.float32),
        }  # fmt: skip
    if masks:
        tensors |= {"small": (32, 3, 4, 4), "spread": np.array([1, 1, 32]), "size": np.array([1, 20, 32])}
    return graph(path, text, tensors, metadata)


def classifier(path, classes=4, last="Identity", side=SIDE, metadata=None, **options):
    text = f"""classifier (float[N,3,{side},{side}] input0) => (float[N,{classes}] output0) {{
      maps = Conv<kernel_shape=[16,16], strides=[16,16]>(input0, kernels)
      high = Relu(maps)
      pooled = GlobalAveragePool(high)
      flat = Flatten(pooled)
      logits = Gemm(flat, columns, bias)
      output0 = {last}(logits)
    }}"""
    bias = np.linspace(-1, 1, classes, dtype=np.float32)
    columns = np.random.default_rng(1).normal(0, 4, (8, classes)).astype(np.float32)
    tensors = {"kernels": (8, 3, 16, 16), "columns": columns, "bias": bias}
    return graph(path, text, tensors, metadata, **options)


def queries(path, columns=4, names=("dets", "labels"), order=(0, 1)):
    """RF-DETR's outputs: boxes as fractions and logits, a row for each cell."""
    text = f"""detr (float[1,3,{SIDE},{SIDE}] input)
      => ({", ".join(f"float[1,{CELLS},{(4, columns)[i]}] {names[i]}" for i in order)}) {{
      maps = Conv<kernel_shape=[8,8], strides=[8,8]>(input, kernels)
      flat = Reshape(maps, rows)
      split = Transpose<perm=[0,2,1]>(flat)
      raw_boxes = Slice(split, zero, four, two)
      {names[1]} = Slice(split, four, all, two)
      {names[0]} = Sigmoid(raw_boxes)
    }}"""
    tensors = {"kernels": (4 + columns, 3, 8, 8), "rows": np.array([1, 4 + columns, CELLS]), "zero": np.array([0])}
    return graph(path, text, tensors | {"four": np.array([4]), "all": np.array([4 + columns]), "two": np.array([2])})


def described(path, **options) -> Description:
    return OnnxFile.of(path, FileOptions(**options)).describe()
