"""Decoders with weights in fewer bits are compared place by place, and published and served where they pass."""

import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tritonvision.ensembles.published import entry_points_of, graphs_of, open_published
from tritonvision.errors import ExportFailed, NotSupported
from tritonvision.exporters import variants
from tritonvision.exporters.pipeline import Quiet
from tritonvision.exporters.precision import decoding
from tritonvision.exporters.precision.gate import Imprecise
from tritonvision.exporters.variants import building
from tritonvision.publication import Repository
from tritonvision.variants import Variant

MODEL, NAME = "tests/small-vlm/1", "tests__small-vlm__1"


@pytest.fixture(scope="module")
def root(served_repository, tmp_path_factory):
    """A repository of its own with the reduced SmolVLM."""
    root = tmp_path_factory.mktemp("models")
    shutil.copytree(served_repository / NAME, root / NAME)
    return root


@pytest.fixture(scope="module")
def manifest(root):
    return Repository(root).resolve(MODEL)


@pytest.fixture(scope="module")
def local(root, manifest):
    opened = open_published(root, manifest)[""]
    yield opened
    opened.close()


def altered(root, manifest, tmp_path, noise):
    """The model whose decoder's weights have that much noise, as a share of their spread."""
    graph = onnx.load(graphs_of(root, manifest, entry_points_of(root, manifest))["decoder"])
    rng = np.random.default_rng(0)
    for tensor in graph.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.ndim == 2:
            more = noise * value.std() * rng.normal(size=value.shape)
            tensor.CopyFrom(numpy_helper.from_array((value + more).astype(value.dtype), tensor.name))
    onnx.save(graph, tmp_path / "decoder.onnx")
    return open_published(root, manifest, files={"decoder": tmp_path / "decoder.onnx"})[""]


def test_the_same_decoder_agrees_at_every_place_and_noise_in_its_weights_is_refused(root, manifest, local, tmp_path):
    trial = decoding.Trial(local)
    assert trial.check(local, "It").figures == {"argmax": 1.0}
    noisy = altered(root, manifest, tmp_path, 0.3)
    with pytest.raises(Imprecise, match="It does not do what fp32 does: The share of tokens"):
        trial.check(noisy, "It")
    noisy.close()


def test_answers_that_are_too_short_prove_nothing(local, monkeypatch):
    monkeypatch.setattr(decoding, "_EACH", 3)
    with pytest.raises(ExportFailed, match="at least 100"):
        decoding.Trial(local).check(local, "It")


def test_as_many_pictures_are_asked_about_as_short_answers_need(local, monkeypatch):
    monkeypatch.setattr(decoding, "_EACH", 10)
    pictures = [np.full((32, 32, 3), 8 * number, np.uint8) for number in range(24)]
    trial = decoding.Trial(local, pictures)
    assert trial.check(local, "It").figures == {"argmax": 1.0}
    assert sum(len(answer) for _, answer in trial._answers) >= decoding.TOKENS
    with pytest.raises(ExportFailed, match="at least 100"):
        decoding.Trial(local, pictures[:3]).check(local, "It")


def test_the_time_of_a_token_is_measured_of_both_by_turns(local):
    base, other = decoding.milliseconds(local, local)
    assert base > 0 and 0.2 < other / base < 5


def test_a_tower_is_timed_at_each_try_though_its_pictures_are_kept(root, manifest, tmp_path):
    job = building.Job(root, tmp_path, manifest, Variant("openvino", "fp32", ("vision",)), Quiet())
    with job._exits:
        assert all(job.timed(job.base).milliseconds > 0 for _ in range(3))


@pytest.mark.slow
def test_a_variant_in_8_bits_is_published_with_its_figures_and_answers(root, manifest, local, tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "TRIES", 16)  # of random weights more layers have to be tried: many tokens nearly tie
    copy = Path(shutil.copytree(root, tmp_path / "models"))
    after = variants.add(copy, MODEL, "onnxruntime", "int8", serve=True)
    (variant,) = after.variants
    assert after.serving == variant.name == "onnxruntime-int8" and variant.networks == ("decoder",)
    assert variant.figures["argmax"] >= 0.99 and variant.shown == "agreement" and variant.milliseconds > 0
    file = copy / NAME / "1" / "decoder.onnxruntime-int8.onnx"
    assert variant.bytes == file.stat().st_size and variant.graph_bytes < manifest.graph_bytes
    assert '"precision": "int8"' in (copy / NAME / "config.pbtxt").read_text().replace('\\"', '"')
    assert (copy / NAME / "configs" / "onnxruntime-fp32.pbtxt").is_file()
    served = open_published(copy, after, variant)[""]
    assert decoding.Trial(local).check(served, "It").figures == variant.figures
    served.close()
    back = variants.use(copy, MODEL, "onnxruntime-fp32")
    assert variants.remove(copy, MODEL, "onnxruntime-int8").variants == () and back.serving == ""
    assert not file.exists()


def test_a_search_for_the_layers_to_keep_holds_one_tried_model_at_a_time(root, tmp_path, monkeypatch):
    running = []

    def refused(trial, found, name):
        running.append(threading.active_count())  # each opened model has a thread that generates
        raise Imprecise(name, [])

    monkeypatch.setattr(decoding.Trial, "check", refused)
    with pytest.raises(Imprecise):
        variants.add(Path(shutil.copytree(root, tmp_path / "models")), MODEL, "onnxruntime", "int8")
    assert len(running) > 1 and len(set(running)) == 1


def test_only_models_that_write_have_decoders(repository):
    with pytest.raises(NotSupported, match="no decoder"):
        variants.add(repository, "mediapipe-face-detection", "onnxruntime", "int4")


def test_a_variant_names_its_own_file():
    variant = Variant("onnxruntime", "int4", ("decoder",))
    assert variant.file("decoder") == "decoder.onnxruntime-int4.onnx"
    assert replace(variant, precision="fp32").file("decoder") == ""
