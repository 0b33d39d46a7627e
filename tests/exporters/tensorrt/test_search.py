"""Which layers of a TensorRT variant stay in fp32: the Model Optimizer's own graphs, judged by the gate.

What stands for TensorRT runs them by ONNX Runtime, which computes int8 by the same nodes.
"""

import modelopt.onnx.quantization  # noqa: F401 - before the double is there, which it would ask for more
import pytest
import tensorrt_double
from unfit_network import network

from tritonvision import plans
from tritonvision.ensembles.entry_points import Chain
from tritonvision.ensembles.preprocessing import Resize
from tritonvision.ensembles.schemas import EMBEDDINGS
from tritonvision.exporters import publish, variants
from tritonvision.publication import Manifest

pytestmark = pytest.mark.slow
MODEL = "tests/unfit/1"


@pytest.fixture
def root(tmp_path):
    """A repository with a network whose fourth layer does not bear int8."""
    point = Chain(Resize("stretch", 32, 32), EMBEDDINGS)
    manifest = Manifest(
        id=MODEL, family="none", task=point.task.name, head=point.name, weights="random", source="x", sha256="0",
        license="x", precision="fp32", labels=(), input_size=(32, 32), steps=(point.pre.triton_name,),
    )  # fmt: skip
    root = tmp_path / "models"
    with publish.staging(root) as folder:
        publish.publish(root, folder, manifest, (point,), {"": network(folder / "model.onnx", unfit=3, shift=100)})
    return root


def test_the_one_layer_that_does_not_bear_int8_stays_in_fp32_and_the_manifest_names_it(root, monkeypatch):
    tensorrt_double.have(monkeypatch, tensorrt_double.H200, calls := [])
    (variant,) = variants.add(root, MODEL, "tensorrt", "int8").variants
    assert variant.kept_fp32 == ("conv3",) and variant.figures["cosine"] >= 0.999
    assert calls.count(("create_network", 2)) > 3, "the first build, the control in fp32, and those of the search"
    manifest = variants.use(root, MODEL, variant.name)
    assert plans.missing(root, manifest, variant.name, tensorrt_double.H200, "10.13.0.35") == ""
