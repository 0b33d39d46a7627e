"""Depth Anything V2: one graph for every aspect ratio, and the pipeline gives the map of processor and network."""

import torch  # isort: skip

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from tritonvision import catalog
from tritonvision.ensembles.in_process import LocalPipeline
from tritonvision.errors import ExportFailed, InvalidPicture
from tritonvision.exporters.contract import Weights
from tritonvision.exporters.families import depth_anything_v2
from tritonvision.exporters.families.depth_anything_v2 import FAMILY
from tritonvision.exporters.libraries import torch_env
from tritonvision.exporters.modules import normalise
from tritonvision.exporters.parity import sample_pictures
from tritonvision.python_backend.images import resize

ENTRY = catalog.find("depth-anything-v2-small")
ORACLE_ON = ("photo", "wide-512x260", "no-face-noise-333x97")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    network = FAMILY.build(ENTRY, Weights("random", seed=3))
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    network.export(path)
    return network, LocalPipeline(path, FAMILY.resize(ENTRY), FAMILY.head)


@pytest.fixture(scope="module")
def processor():
    """transformers' default, which resizes with torchvision."""
    torch_env.import_torchvision()
    from transformers import DPTImageProcessor

    return DPTImageProcessor(**depth_anything_v2.PROCESSOR)


def photo_of(height, width):
    return np.array(Image.fromarray(sample_pictures.photo()).resize((width, height), Image.Resampling.BILINEAR))


def relative(got, want):
    assert got.shape == want.shape
    return np.abs(got - want).max() / np.abs(want).max()


@pytest.mark.slow
@pytest.mark.parametrize(
    "height, width", [(518, 518), (518, 700), (364, 518), (252, 1036), (84, 140), (14, 518), (518, 14), (14, 14)]
)
def test_one_graph_computes_the_networks_map_at_every_aspect_ratio(model, height, width):
    network, pipeline = model
    pixels = {"pixels": photo_of(height, width)[None]}
    got, want = pipeline.tensors(pixels)["map"], network.tensors(pixels)["map"]
    assert got.shape == (1, height, width)
    assert relative(got, want) <= 5e-5


@pytest.mark.slow
def test_a_batch_holds_the_map_of_each_picture(model):
    network, pipeline = model
    pixels = {"pixels": np.stack([photo_of(140, 266), sample_pictures.noise(140, 266)])}
    got, want = pipeline.tensors(pixels)["map"], network.tensors(pixels)["map"]
    assert relative(got, want) <= 5e-5
    alone = pipeline.tensors({"pixels": pixels["pixels"][1:]})["map"]
    assert relative(got[1:], alone) <= 1e-5
    assert relative(got[1], got[0]) >= 0.05


def values(answer):
    low, high = answer["range"].astype(np.float64)
    return low + answer["map"] * ((high - low) / 65535)


@pytest.mark.slow
def test_pipeline_answers_what_processor_and_network_answer(model):
    network, pipeline = model
    for name in ORACLE_ON:
        picture = sample_pictures.views()[name]
        got, want = values(pipeline(picture)), network.predict(picture, {})["map"]
        assert got.shape == picture.shape[:2]
        assert relative(got, want) <= 5e-5, name


@pytest.mark.slow
def test_pipeline_answers_what_the_processor_with_torchvision_answers(model, processor, monkeypatch):
    network, pipeline = model
    monkeypatch.setitem(vars(network), "_processor", processor)  # the default of transformers 5
    picture = sample_pictures.views()["tall-300x512"]
    assert relative(values(pipeline(picture)), network.predict(picture, {})["map"]) <= 1e-3


@pytest.mark.slow
def test_a_random_map_varies_over_a_picture_and_between_pictures(model):
    network, _ = model
    maps = network.tensors({"pixels": np.stack([photo_of(252, 252), photo_of(252, 252)[:, ::-1]])})["map"]
    assert maps.std(axis=(1, 2)).min() >= 0.5
    assert relative(maps[1], maps[0]) >= 0.1
    assert 0 < (maps == 0).mean() < 0.3  # the last ReLU sets a part of it to zero


@pytest.mark.slow
def test_float64_reference_agrees_with_float32(model):
    network, _ = model
    pixels = {"pixels": sample_pictures.noise(84, 140)[None]}
    single, double = network.tensors(pixels)["map"], network.tensors(pixels, double=True)["map"]
    assert double.dtype == np.float64
    assert relative(single, double) <= 5e-5


@pytest.mark.slow
def test_export_does_not_change_the_reference_network(model):
    network, _ = model
    assert "forward" not in vars(network._model.head)
    assert "interpolate_pos_encoding" not in vars(network._model.backbone.embeddings)


# ---- the pre step against the authors' processor ---------------------------------------------------------------------


@given(st.integers(1, 6000), st.integers(1, 6000))
@settings(max_examples=400, deadline=None)
@example(518, 518)
@example(700, 518)
@example(1036, 1036)
@example(3, 400)
@example(50, 30)
def test_the_pixels_have_the_size_the_processor_gives_or_the_picture_is_refused(height, width):
    torch_env.import_torchvision()
    from transformers.models.dpt.image_processing_dpt import get_resize_output_image_size

    meta = torch.empty((3, height, width), device="meta")
    size = get_resize_output_image_size(meta, (518, 518), keep_aspect_ratio=True, multiple=14)
    picture = np.broadcast_to(np.uint8(7), (height, width, 3))
    if not 0 < size.height * size.width <= 4 * 518 * 518:
        with pytest.raises(InvalidPicture, match="long and narrow"):
            resize.multiple(picture, 518, 518, 14)
        return
    with pytest.MonkeyPatch.context() as patch:  # the size alone: resizing 36 million pixels takes a while
        patch.setattr(resize.Image, "fromarray", lambda _: Sizes)
        pixels, geometry = resize.multiple(picture, 518, 518, 14)
    assert pixels.shape == (size.height, size.width, 3)
    assert (geometry.width, geometry.height) == (width, height)


class Sizes:
    """Stands for a picture that can be resized."""

    @staticmethod
    def resize(size, method):
        assert method is Image.Resampling.BICUBIC
        return np.zeros((size[1], size[0], 3), np.uint8)


@pytest.mark.parametrize(
    "height, width",
    [
        (518, 518), (512, 512), (1, 1), (5, 3), (17, 5), (97, 333), (480, 640), (640, 480), (719, 1281), (1281, 719),
        (259, 1036), (130, 518), (60, 700), (1500, 900),
    ],
)  # fmt: skip
def test_the_pixels_are_the_processors(processor, height, width):
    from transformers import DPTImageProcessorPil

    rng = np.random.default_rng(height * 10_007 + width)
    picture = np.clip(photo_of(height, width).astype(int) + rng.integers(-30, 31, (height, width, 3)), 0, 255)
    picture = picture.astype(np.uint8)
    pixels, _ = resize.multiple(picture, 518, 518, 14)

    def of(reference_pipeline):
        answer = reference_pipeline(images=picture, return_tensors="np", input_data_format="channels_last")
        values = answer["pixel_values"][0].transpose(1, 2, 0)
        return np.rint((values * normalise.STD + normalise.MEAN) * 255)

    assert np.array_equal(pixels, of(DPTImageProcessorPil(**depth_anything_v2.PROCESSOR)))
    difference = np.abs(pixels - of(processor))  # torchvision's weights have 16 bits
    assert difference.max() <= 2
    assert difference.mean() <= 0.01


# ---- weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["small", "base", "large"])
def test_each_size_is_the_released_architecture(size):
    torch_env.import_torchvision()
    from transformers import DepthAnythingForDepthEstimation

    entry = catalog.find(f"depth-anything-v2-{size}")
    with torch.device("meta"):
        network = DepthAnythingForDepthEstimation(depth_anything_v2._config(entry))
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(entry.params_m, abs=0.1)


@pytest.mark.slow
def test_weights_of_the_user_give_their_map(model, tmp_path):
    network, _ = model
    module = network._model
    module.save_pretrained(tmp_path / "folder")
    save_file({name: value.contiguous() for name, value in module.state_dict().items()}, tmp_path / "w.safetensors")
    pixels = {"pixels": sample_pictures.noise(84, 140)[None]}
    for path in (tmp_path / "folder", tmp_path / "w.safetensors"):
        again = FAMILY.build(ENTRY, Weights("user", path=path))
        assert np.array_equal(again.tensors(pixels)["map"], network.tensors(pixels)["map"])
        assert (again.source, len(again.sha256)) == (path.name, 64)


@pytest.mark.slow
def test_weights_of_another_size_are_refused(model, tmp_path):
    model[0]._model.save_pretrained(tmp_path)
    with pytest.raises(ExportFailed, match="another size"):
        FAMILY.build(catalog.find("depth-anything-v2-base"), Weights("user", path=tmp_path))


def test_larger_networks_run_in_one_process():
    points = [FAMILY.entry_points(catalog.find(f"depth-anything-v2-{size}"))[0] for size in ("small", "base", "large")]
    assert [point.instances for point in points] == [2, 1, 1]
