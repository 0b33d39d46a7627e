"""Writes the graphs that TensorRT's parser is asked about beside the published models of the tests: those of the
families that no test model has, and of two small models in every precision that a plan may have.

    python -P tests/tensorrt/further_graphs.py REPOSITORY FOLDER      (the export environment; ``make`` does it)
"""

from __future__ import annotations

import sys
from pathlib import Path

from tritonvision import catalog
from tritonvision.exporters import registry
from tritonvision.exporters.contract import Weights, entry_points_of
from tritonvision.exporters.synthetic.calibrate import structured_pictures
from tritonvision.exporters.tensorrt import typed

# random weights, and no gate: only the graph's form matters here
FURTHER = "facebook/detr-resnet-50", "vit-tiny-patch16", "yolov11n-640", "yolov11n-seg-640"
TYPED = {"yolov8n-640": ("fp16", "bf16"), "resnet18": ("int8", "fp8")}


def main(repository: Path, folder: Path) -> None:
    """Write them below ``folder``, named after the model, the network's role and the precision."""
    folder.mkdir(parents=True, exist_ok=True)
    for model_id in FURTHER:
        entry = catalog.find(model_id)
        family = registry.find(entry.family)
        network = family.build(entry, Weights("random"))
        for net in (net for point in entry_points_of(family, entry, network) for net in point.nets):
            network.export(folder / f"{catalog.triton_name(model_id)}.onnx", net.role)
    for model_id, precisions in TYPED.items():
        entry = catalog.find(model_id)
        height, width = entry.input_size
        samples = {"pixels": structured_pictures(2, height, width, 0)}
        for precision in precisions:
            graph = repository / f"net--{catalog.triton_name(model_id)}" / "1" / "model.onnx"
            keep = registry.find(entry.family).fp32_layers
            typed.write(graph, folder / f"{catalog.triton_name(model_id)}--{precision}.onnx", precision, samples, keep)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
