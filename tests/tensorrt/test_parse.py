"""Every graph of every family goes through NVIDIA's own ONNX parser."""

import json
from pathlib import Path

import onnx
import pytest
from onnx import parser

from tritonvision import catalog
from tritonvision.errors import ExportFailed
from tritonvision.exporters import registry
from tritonvision.exporters.tensorrt import build

CACHE = Path(__file__).parents[2] / ".cache"
REPOSITORY, FURTHER = CACHE / "test_repository", CACHE / "tensorrt_graphs"
# of the published models by folder and file, and the further ones by file
GRAPHS = {f"{path.parts[-3]}/{path.name}": path for path in sorted(REPOSITORY.glob("*/1/*.onnx"))}
GRAPHS |= {path.stem: path for path in sorted(FURTHER.glob("*.onnx"))}


@pytest.mark.parametrize("name", GRAPHS)
def test_the_parser_takes_the_graph(trt, name):
    _, network = build.parse(trt, GRAPHS[name])
    assert network.num_layers > 2 and network.num_outputs > 0


def test_no_family_is_left_out():
    manifests = [json.loads(path.read_text()) for path in REPOSITORY.glob("*/manifest.json")]
    models = [path.stem.partition("=")[0] for path in FURTHER.glob("*.onnx") if "--" not in path.stem]
    further = {catalog.find(catalog.from_triton_name(name)).family for name in models}
    assert {manifest["family"] for manifest in manifests} | further == registry.exportable()


def test_bytes_that_are_arranged_before_they_are_cast_are_what_the_parser_refuses_and_it_says_where(trt, tmp_path):
    refused = """<ir_version: 8, opset_import: ["" : 17]>
    g (uint8[n,6,4,3] pixels) => (float[n,3,6,4] answer) {
      planes = Transpose<perm = [0, 3, 1, 2]>(pixels)
      answer = Cast<to = 1>(planes)
    }"""
    model = parser.parse_model(refused)
    model.graph.node[0].name = "/arranged"
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(ExportFailed, match="parser refuses the graph: Transpose '/arranged': .*UInt8"):
        build.parse(trt, tmp_path / "model.onnx")
