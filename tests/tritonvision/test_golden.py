"""Golden questions as files: small, no pickles, read as they were written; what cannot be read is one sentence."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tritonvision import golden
from tritonvision.differences import VALUES
from tritonvision.errors import BrokenModel
from tritonvision.golden import FOLDER, INDEX, Recorded, Stage
from tritonvision.publication import Manifest

PICTURE = b"\x89PNG of a kind\x82"
LARGE = np.random.default_rng(0).normal(size=(1, 32, 40, 40)).astype(np.float32)


def manifest(**more) -> Manifest:
    return Manifest(
        id="my/net/1", family="X", task="object-detection", head="dense-boxes", weights="user", source="x", sha256="0",
        license="x", precision="fp32", labels=("cat", "dog"), input_size=None, steps=(), **more,
    )  # fmt: skip


def write(root: Path, recorded: list[Recorded]) -> Manifest:
    files = golden.files_of(manifest(), {"": recorded})
    folder = root / "my__net__1" / FOLDER
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    digests = {f"my__net__1/{FOLDER}/{name}": hashlib.sha256(data).hexdigest() for name, data in files.items()}
    return manifest(files=digests)


@pytest.fixture
def stage() -> Recorded:
    about = Stage("network", "net--my__net__1", VALUES, {"features": 1e-4, "names": 0.0}, "network.npz")
    outputs = {"features": LARGE, "names": golden.strings([b"a", "ü".encode()], (1, 2))}
    return Recorded(about, {"parameters": golden.strings([b"{}"], (1, 1))}, outputs, {"question.png": PICTURE})


def test_what_is_read_is_what_was_written(tmp_path, stage):
    found = golden.read(tmp_path, write(tmp_path, [stage]))
    (question,) = found.questions
    (read,) = question.stages
    inputs, outputs = found.load(read)
    assert (question.role, read.name, read.model) == ("", "network", "net--my__net__1")
    assert read.bars == stage.stage.bars
    assert inputs["image"].tolist() == [[PICTURE]] and inputs["parameters"].tolist() == [[b"{}"]]
    assert outputs["names"].tolist() == [[b"a", "ü".encode()]]
    assert outputs["features"].shape == (4096,) and set(outputs["features"]) <= set(LARGE.reshape(-1))


def test_a_large_output_is_compared_by_a_part_of_its_values(tmp_path, stage):
    found = golden.read(tmp_path, write(tmp_path, [stage]))
    (read,) = found.questions[0].stages
    _, wanted = found.load(read)
    names = golden.strings([b"a", "ü".encode()], (1, 2))
    assert read.compare({"features": LARGE, "names": names}, wanted).passed
    for features in (LARGE + np.float32(0.001), LARGE[..., ::-1], LARGE[:, :16], LARGE * np.float32("nan")):
        verdict = read.compare({"features": features, "names": names}, wanted)
        assert not verdict.passed and verdict.why.startswith("features ")
    assert (tmp_path / "my__net__1" / FOLDER / "network.npz").stat().st_size < LARGE.nbytes / 8


def test_the_names_of_the_classes_are_compared(tmp_path, stage):
    published = write(tmp_path, [stage])
    found = golden.read(tmp_path, published)
    assert golden.check_facts(found, published).passed
    for other in ({"labels": ("dog", "cat")}, {"labels": ("cat",)}, {"multi_label": True}, {"map_meaning": "depth"}):
        assert not golden.check_facts(found, replace(published, **other)).passed


def test_what_was_published_before_has_none(tmp_path):
    assert golden.read(tmp_path, manifest()) is None


@pytest.mark.parametrize("name", [INDEX, "network.npz", "question.png"])
@pytest.mark.parametrize("data", [None, b"", b"{}", b"PK\x03\x04garbage"])
def test_what_cannot_be_read_is_one_sentence(tmp_path, stage, name, data):
    published = write(tmp_path, [stage])
    path = tmp_path / "my__net__1" / FOLDER / name
    path.unlink()
    if data is not None:
        path.write_bytes(data)
    if name == "question.png" and data is not None:
        return  # any bytes are bytes; the model says what it thinks of them
    with pytest.raises(BrokenModel, match="The golden answer of the model cannot be read."):
        found = golden.read(tmp_path, published)
        found.load(found.questions[0].stages[0])


def test_a_pickle_is_not_opened(tmp_path, stage):
    published = write(tmp_path, [stage])
    np.savez(tmp_path / "my__net__1" / FOLDER / "network.npz", **{"out/features": np.array([object()], dtype=object)})
    found = golden.read(tmp_path, published)
    with pytest.raises(BrokenModel):
        found.load(found.questions[0].stages[0])


def test_rounded_inputs_keep_what_small_ones_are():
    small = np.float32([1.1, -2.7])
    assert golden.rounded(small) is small
    near = golden.rounded(LARGE)
    assert near.shape == LARGE.shape and 0 < np.abs(near / LARGE - 1).max() < 2**-7
