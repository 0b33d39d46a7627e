"""Writes the graphs that TensorRT's parser is asked about beside the published models of the tests: those of the
families that no test model has, and of two small models in every precision that a plan may have.

    python -P tests/tensorrt/further_graphs.py REPOSITORY FOLDER      (the export environment; ``make`` does it)
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tritonvision import catalog
from tritonvision.exporters import registry
from tritonvision.exporters.contract import Weights, entry_points_of
from tritonvision.exporters.synthetic.calibrate import structured_pictures
from tritonvision.exporters.tensorrt import typed

# random weights, and no gate: only the graph's form matters here
FURTHER = (
    "easyocr-en", "facebook/detr-resnet-50", "yolov9c-640", "yolact-resnet50", "yolov12n-640", "yolov11n-seg-640",
    "depth-anything-v3-small", "vit-tiny-patch16", "yolonass-640", "yolov10n-640", "yolov11n-640",
)  # fmt: skip
SMALL = ("cosmos-reason1",)  # of which no true size fits
TYPED = (("yolov8n-640", "fp16"), ("yolov8n-640", "bf16"), ("resnet18", "int8"), ("resnet18", "fp8"))


def main(repository: Path, folder: Path) -> None:
    """Write them below ``folder``, as ``model``, ``model=role`` or ``model--precision``, as many at once as there are
    cores.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as processes:
        work = [processes.submit(write_family, model_id, folder) for model_id in (*FURTHER, *SMALL)]
        work += [processes.submit(write_typed, repository, folder, *one) for one in TYPED]
        for one in work:
            one.result()


def write_family(model_id: str, folder: Path) -> None:
    """The graphs of one id."""
    entry = catalog.find(model_id)
    family = registry.find(entry.family)
    network = family.random("reduced", 0) if model_id in SMALL else family.build(entry, Weights("random"))
    for net in (net for point in entry_points_of(family, entry, network) for net in point.nets):
        role = f"={net.role}" if net.role else ""
        network.export(folder / f"{catalog.triton_name(model_id)}{role}.onnx", net.role)


def write_typed(repository: Path, folder: Path, model_id: str, precision: str) -> None:
    """The graph of a published model, typed for one precision."""
    entry = catalog.find(model_id)
    samples = {"pixels": structured_pictures(2, *entry.input_size, 0)}
    graph = repository / f"net--{catalog.triton_name(model_id)}" / "1" / "model.onnx"
    keep = registry.find(entry.family).fp32_layers
    typed.write(graph, folder / f"{catalog.triton_name(model_id)}--{precision}.onnx", precision, samples, keep)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
