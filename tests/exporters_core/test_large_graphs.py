"""A graph whose weights lie beside it goes all the ways of one that is one file; the limit is lowered so that a small
one does.
"""

import asyncio
import shutil
from pathlib import Path

import numpy as np
import pytest

from tritonvision import integrity
from tritonvision.engine.engine import Engine
from tritonvision.ensembles import published
from tritonvision.errors import BrokenModel
from tritonvision.exporters import pipeline, removal, variants
from tritonvision.exporters.contract import Weights
from tritonvision.exporters.graphs import storage
from tritonvision.exporters.parity import sample_pictures
from tritonvision.publication import Repository
from tritonvision.server import Embedded

pytest.importorskip("openvino")
FACE, VARIANT = "mediapipe-face-detection", "openvino-fp32"
GRAPH = f"net--{FACE}/1/model.onnx"
DATA = f"{GRAPH}.data"


@pytest.fixture(scope="module")
def beside(tmp_path_factory) -> Path:
    """A repository with the face model, its weights beside the graph, and a variant that does not serve."""
    root = tmp_path_factory.mktemp("beside") / "models"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "INSIDE", 1)
        pipeline.export(FACE, Weights(), root)
    variants.add(root, FACE, "openvino", "fp32")
    return root


@pytest.fixture
def root(beside, tmp_path) -> Path:
    """A copy of that folder, the original of which was never there."""
    return Path(shutil.copytree(beside, tmp_path / "elsewhere"))


def answers(root: Path, name: str = "") -> dict[str, np.ndarray]:
    manifest = Repository(root).get(FACE)
    variant = variants.find(manifest, name) if name else None
    return published.open_published(root, manifest, variant)[""](sample_pictures.photo(), {"confidence": 0.05})


def test_it_is_published_in_two_files_that_both_count(beside, repository):
    manifest, usual = Repository(beside).get(FACE), Repository(repository).get(FACE)
    assert {GRAPH, DATA} <= manifest.files.keys() and DATA not in usual.files
    assert sorted(path.name for path in (beside / GRAPH).parent.iterdir()) == ["model.onnx", "model.onnx.data"]
    assert (beside / GRAPH).stat().st_size < 60_000 < 300_000 < (beside / DATA).stat().st_size
    both = sum((beside / path).stat().st_size for path in (GRAPH, DATA))
    assert manifest.graph_bytes == both * usual.graph_bytes // (repository / GRAPH).stat().st_size
    assert variants.find(manifest, VARIANT).graph_bytes == manifest.graph_bytes
    assert not (beside / ".staging").exists()


def test_a_copy_of_the_folder_answers_as_one_file_does_on_both_engines(root, repository):
    usual = answers(repository)
    assert len(usual["scores"])
    for name, places in (("", 0.0), (VARIANT, 1e-2)):
        for key, value in answers(root, name).items():
            np.testing.assert_allclose(value, usual[key], atol=places, err_msg=f"{name} {key}")


def test_a_changed_weight_is_noticed(root):
    store = Repository(root)
    integrity.check_files(store, store.get(FACE))
    data = bytearray((root / DATA).read_bytes())
    data[len(data) // 2] ^= 1
    (root / DATA).write_bytes(data)
    with pytest.raises(BrokenModel, match="not those that were published"):
        integrity.check_files(store, store.get(FACE))


def test_published_again_in_one_file_nothing_of_the_two_is_left(root):
    pipeline.export(FACE, Weights(), root, force=True)
    assert not (root / DATA).exists() and DATA not in Repository(root).get(FACE).files


def test_removed_it_leaves_only_the_shared_steps(root):
    store = Repository(root)
    size = sum((root / path).stat().st_size for path in (GRAPH, DATA))
    assert removal.remove(store, store.get(FACE)) > size
    assert sorted(path.name for path in root.iterdir()) == ["post--keypoints", "pre--square-128"]


def test_triton_serves_it_by_both_engines_and_its_golden_questions_are_answered(root, settings, photo):
    settings = settings.model_copy(update={"repository": root})
    server = Embedded(settings)
    server.start()

    async def ask():
        engine = Engine(settings, server)
        await engine.start()
        try:
            for name in ("onnxruntime-fp32", VARIANT):
                variants.use(root, FACE, name)
                _, [(_, found)] = await engine.infer(FACE, [photo], {})
                verdict = await engine.verify(FACE)
                assert len(found) and verdict.passed and verdict.asked and verdict.variant == name
        finally:
            await engine.close()

    try:
        asyncio.run(ask())
    finally:
        server.stop()
