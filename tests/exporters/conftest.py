"""Fixtures of the torch families: the photo, synthetic scenes, and a small detector trained within a minute."""

import torch  # isort: skip

import hashlib
from importlib import metadata
from pathlib import Path

import drawn_shapes
import pytest
from filelock import FileLock

from tritonvision.exporters.libraries import torch_env
from tritonvision.exporters.parity import sample_pictures

torch_env.import_torchvision()  # before any library that imports it, whichever test runs first


@pytest.fixture(scope="module")
def few_threads():
    """Limits torch to two threads during a module's tests, to one where tests run side by side."""
    before = torch.get_num_threads()
    torch.set_num_threads(min(2, before))
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def photo_rgb():
    return sample_pictures.photo()


@pytest.fixture(scope="session")
def draw_scene():
    """``draw_scene(rng, height, width, count) -> (picture, boxes, classes)``."""
    return drawn_shapes.scene


@pytest.fixture(scope="session")
def trained_yolo(request):
    """Path of the checkpoint of :func:`drawn_shapes.train`.

    It stays in pytest's cache, for as long as that module and the packages are the same. Tests that run side by side
    wait for the one that trains it first.
    """
    made_of = (Path(drawn_shapes.__file__).read_text(), torch.__version__, metadata.version("ultralytics"))
    name = f"shapes-{hashlib.sha256(repr(made_of).encode()).hexdigest()[:16]}.pt"
    path = request.config.cache.mkdir("trained") / name
    with FileLock(f"{path}.lock"):
        if not path.is_file():
            drawn_shapes.train(path.with_suffix(".part"))
            path.with_suffix(".part").replace(path)
    return path
