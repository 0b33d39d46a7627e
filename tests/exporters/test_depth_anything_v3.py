"""Depth Anything V3: the authors' network for one picture, in a graph for every aspect ratio."""

import torch  # isort: skip

import json
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from attention import check_attention
from PIL import Image
from safetensors.torch import save_file

from tritonvision import catalog
from tritonvision.ensembles.in_process import LocalPipeline
from tritonvision.errors import ExportFailed
from tritonvision.exporters.contract import Weights
from tritonvision.exporters.families import depth_anything_v3
from tritonvision.exporters.families.depth_anything_v3 import FAMILY
from tritonvision.exporters.families.depth_anything_v3.network import DepthNet, Size, _places, rotated
from tritonvision.exporters.graphs.export import export_onnx
from tritonvision.exporters.libraries import transformers_weights
from tritonvision.exporters.parity import sample_pictures
from tritonvision.machine import why_not
from tritonvision.python_backend.images import resize
from tritonvision.python_backend.runtime.engines import open_network

ENTRY = catalog.find("depth-anything-v3-small")
ENTRIES = [entry for entry in catalog.entries().values() if entry.family == "Depth Anything V3"]
# Six blocks: two before positions are rotated, two that attend to one view, two that attend to all.
SMALL = {
    "width": 48, "depth": 6, "heads": 4, "taken": (2, 3, 4, 5), "start": 2, "features": 16, "channels": (16, 24, 32, 48)
}  # fmt: skip
RECORDED = json.loads((Path(depth_anything_v3.__file__).parent / "golden.json").read_text())


@pytest.fixture(autouse=True, scope="module")
def reduced():
    with mock.patch.dict(depth_anything_v3._SIZES, {size: SMALL for size in depth_anything_v3._SIZES}):
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    network = FAMILY.build(ENTRY, Weights("random", seed=1))
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    network.export(path)
    return network, LocalPipeline(path, FAMILY.resize(ENTRY), FAMILY.head)


def test_the_rebuilt_network_answers_what_the_authors_own_answered():
    network = DepthNet(Size(**RECORDED["size"])).eval()
    transformers_weights.redraw(network, RECORDED["weights_seed"])
    with torch.no_grad():
        network.head.scratch.output_conv2[2].weight.mul_(RECORDED["last_kernel_times"])
    images = torch.randn(RECORDED["pictures"], generator=torch.Generator().manual_seed(RECORDED["pictures_seed"]))
    with torch.inference_mode():
        found = network(images)
    assert np.ptp(RECORDED["depth"]) > 0.1
    np.testing.assert_allclose(found[0, ::7, ::6].flatten().numpy(), RECORDED["depth"], rtol=2e-5)


@pytest.mark.parametrize("height, width", [(504, 504), (378, 504), (504, 140), (14, 504), (504, 14), (14, 14)])
def test_one_graph_computes_the_networks_map_at_every_aspect_ratio(model, height, width):
    network, pipeline = model
    photo = Image.fromarray(sample_pictures.photo()).resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.stack([np.array(photo), np.array(photo)[::-1]])
    for batch in (1, 2):
        got, want = (one.tensors({"pixels": pixels[:batch]})["map"] for one in (pipeline, network))
        assert got.shape == (batch, height, width)
        assert np.abs(got - want).max() <= 1e-4 * np.abs(want).max()


def test_the_pipeline_gives_the_map_of_the_authors_steps(model):
    network, pipeline = model
    for name in ("photo", "wide-512x260", "odd-220x316", "no-face-noise-333x97"):
        picture = sample_pictures.views()[name]
        want, got = network.predict(picture, {})["map"], pipeline(picture)
        low, high = got["range"]
        values = low + got["map"].astype(np.float64) * (high - low) / 65535
        assert values.shape == picture.shape[:2]
        assert np.abs(values - want).max() <= 4e-4 * np.abs(want).max(), name


def test_float64_reference_agrees_with_float32_and_maps_vary(model):
    network, _ = model
    pixels = np.stack([sample_pictures.photo()[:504, :504], sample_pictures.noise(504, 504)])
    single, double = (network.tensors({"pixels": pixels}, double)["map"] for double in (False, True))
    assert double.dtype == np.float64 and np.abs(single - double).max() <= 1e-4 * np.abs(double).max()
    assert single.std(axis=(1, 2)).min() > 0.01 and np.abs(single[0] - single[1]).mean() > 0.01


@pytest.mark.parametrize(
    "size", [(504, 504), (1, 1), (17, 5), (640, 480), (333, 1000), (1000, 333), (97, 131), (512, 511)]
)
def test_pixels_are_those_of_the_authors_steps(size):
    picture = np.random.default_rng(size[1]).integers(0, 256, (*size, 3), dtype=np.uint8)
    pixels, geometry = resize.bounded(picture, 504, 504)
    wanted = depth_anything_v3._processed(picture)
    assert pixels.shape[0] % 14 == pixels.shape[1] % 14 == 0 and max(pixels.shape[:2]) == 504
    np.testing.assert_array_equal(pixels, wanted)
    assert geometry.gain_x == pixels.shape[1] / size[1] and geometry.gain_y == pixels.shape[0] / size[0]


@pytest.mark.parametrize("size", [(1, 3000), (3000, 1), (2, 900)])
def test_a_strip_has_one_patch_across_at_least(size):
    pixels, _ = resize.bounded(np.zeros((*size, 3), np.uint8), 504, 504)
    assert sorted(pixels.shape[:2]) == [14, 504]


def test_the_authors_file_is_read_without_cameras_and_rays_and_another_size_refused(model, tmp_path):
    network, _ = model
    state = {f"model.{name}": value.contiguous() for name, value in network._model.state_dict().items()}
    extra = {
        f"model.{name}": torch.zeros(3)
        for name in ("cam_enc.token", "cam_dec.fc.weight", "head.scratch.refinenet1_aux.out_conv.bias",
                     "head.scratch.output_conv2_aux.0.0.bias")
    }  # fmt: skip
    save_file(state | extra, tmp_path / "model.safetensors")
    again = FAMILY.build(ENTRY, Weights("user", path=tmp_path / "model.safetensors"))
    picture = sample_pictures.views()["wide-512x260"]
    np.testing.assert_array_equal(again.predict(picture, {})["map"], network.predict(picture, {})["map"])
    save_file(state | {"model.head.sky.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(ExportFailed, match="'head.sky.weight' is none of its tensors"):
        FAMILY.build(ENTRY, Weights("user", path=tmp_path / "other.safetensors"))
    with mock.patch.dict(depth_anything_v3._SIZES, {"base": SMALL | {"width": 64}}), pytest.raises(ExportFailed):
        FAMILY.build(catalog.find("depth-anything-v3-base"), Weights("user", path=tmp_path / "model.safetensors"))


def test_every_size_is_that_of_its_release():
    true = {"small": (384, 12), "base": (768, 12), "large": (1024, 24)}
    for entry in ENTRIES:
        width, depth = true[depth_anything_v3._size(entry)]
        # the blocks alone; cameras, rays and the head make up the rest of what the catalogue tells
        assert 0.7 < depth * 12 * width * width / 1e6 / entry.params_m < 1
        assert FAMILY.map_meaning == "depth" and FAMILY.resize(entry).size is None


@pytest.mark.skipif(bool(why_not("openvino", "bf16")), reason=why_not("openvino", "bf16"))
def test_an_engine_that_computes_all_of_it_in_bf16_still_turns_queries_by_where_each_patch_lies(tmp_path):
    class Turned(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("same", torch.eye(64) + 1e-9)

        def forward(self, pixels):
            places = _places(pixels.shape[1], pixels.shape[2], pixels)
            queries = pixels[:, :1, :1, :1].float()[..., 0, None].expand(-1, 1, places.shape[0], 64)
            return rotated(queries, places, 64) @ self.same  # a product, as what precedes one is computed in bf16

    graph, pixels = tmp_path / "m.onnx", np.ones((1, 36, 36, 3), np.uint8)
    export_onnx(
        Turned(), torch.ones(2, 5, 7, 3, dtype=torch.uint8), graph, ("pixels",), ("turned",),
        {"pixels": {1: "rows", 2: "columns"}, "turned": {2: "patches"}},
    )  # fmt: skip
    found = [open_network(graph, "openvino", one).run(["turned"], {"pixels": pixels})[0] for one in ("fp32", "bf16")]
    want = Turned()(torch.from_numpy(pixels)).numpy()
    assert np.abs(found[0] - want).max() < 1e-5
    assert 0 < np.abs(found[1] - want).max() < 0.02


def test_queries_and_keys_of_random_weights_have_an_effect(model):
    network, pipeline = model
    pixels = pipeline.inputs(sample_pictures.photo())[0]["pixels"]
    check_attention(network, FAMILY.tolerance, {"": {"pixels": pixels[None]}})
