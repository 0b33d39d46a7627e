"""From weights to a published model, with the real face model, and the ways that go nowhere."""

import importlib.util
import json
import re
import shutil
from dataclasses import replace

import onnx
import pytest
from onnx import numpy_helper

from tritonvision import catalog, memory
from tritonvision.ensembles.in_process import LocalPipeline
from tritonvision.errors import BrokenModel, ExportFailed, InvalidParameter, NotSupported, SetupError, UnknownModel
from tritonvision.exporters import demand, pipeline, registry
from tritonvision.exporters.contract import NoSignal, Weights
from tritonvision.exporters.parity import sample_pictures
from tritonvision.publication import Repository

FACE = "mediapipe-face-detection"


class Watching:
    """Keeps what it is told."""

    def __init__(self):
        self.stages, self.notices = [], []

    def stage(self, name):
        self.stages.append(name)

    def notice(self, sentence):
        self.notices.append(sentence)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A repository with the face model, for tests that copy it or only read."""
    root = tmp_path_factory.mktemp("repository")
    pipeline.export(FACE, Weights(), root)
    return root


@pytest.fixture
def repository(published, tmp_path):
    return shutil.copytree(published, tmp_path / "repository")


@pytest.fixture
def corrupted(network, monkeypatch):
    """The face exporter writes a graph whose first kernel is off by one part in a hundred."""
    export = type(network).export

    def wrong(self, path, role=""):
        export(self, path)
        model = onnx.load(path)
        kernel = next(i for i in model.graph.initializer if len(i.dims) == 4)
        kernel.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(kernel) * 1.01, kernel.name))
        onnx.save(model, path)

    monkeypatch.setattr(type(network), "export", wrong)


def test_the_licence_is_that_of_the_weights_not_of_the_architecture():
    entry = catalog.find("yolov8n-640")
    assert pipeline.license_of(entry, "official") == "AGPL-3.0"
    for kind, words in (("random", "random numbers"), ("user", "your own")):
        assert words in pipeline.license_of(entry, kind) and "AGPL" not in pipeline.license_of(entry, kind)


def test_the_face_model_is_published_with_its_proof(published):
    manifest = Repository(published).resolve("mediapipe/face-detector")
    assert manifest.id == FACE
    assert (manifest.weights, manifest.head, manifest.license) == ("official", "keypoints", "Apache-2.0")
    assert manifest.labels == ("face",) and len(manifest.keypoint_labels) == 6
    assert manifest.input_size == (128, 128)
    assert manifest.sha256.startswith("bbff11ce")
    assert manifest.parity["pipeline_answers"] == 12
    assert manifest.parity["pipeline_pixels"] <= 0.1
    assert manifest.steps == ("pre--square-128", "post--keypoints", f"net--{FACE}")
    assert all((published / step / "config.pbtxt").is_file() for step in manifest.steps)


def test_the_published_graph_answers(published, family, entry):
    local = LocalPipeline(published / f"net--{FACE}" / "1" / "model.onnx", family.resize(entry), family.head)
    assert len(local(sample_pictures.photo())["scores"]) == 1
    with pytest.raises(InvalidParameter):
        local(sample_pictures.photo(), {"confidense": 0.5})


def test_stages_are_told_in_order(tmp_path):
    watching = Watching()
    pipeline.export(FACE, Weights(), tmp_path, progress=watching)
    assert watching.stages == ["weights", "graph", "parity gate", "publishing"]


def test_a_published_model_is_left_alone_without_force(repository, contents, corrupted):
    before = contents(repository)
    assert pipeline.export(FACE, Weights(), repository) == Repository(repository).get(FACE)
    assert pipeline.export("mediapipe/face-detector", Weights(), repository).id == FACE
    assert contents(repository) == before


def test_a_published_model_that_this_version_cannot_read_is_replaced_by_force_alone(repository, contents):
    manifest = repository / FACE / "manifest.json"
    told = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(told | {"colours_of_the_future": 3}))
    before = contents(repository)
    with pytest.raises(BrokenModel, match="holds a manifest of a newer version"):
        pipeline.export(FACE, Weights(), repository)
    assert contents(repository) == before
    assert pipeline.export(FACE, Weights(), repository, force=True).id == FACE
    assert Repository(repository).get(FACE) is not None


def test_a_failed_gate_leaves_the_repository_as_it_was(repository, contents, corrupted):
    before = contents(repository)
    for options in ({"force": True}, {"as_id": "faces/2"}):
        with pytest.raises(ExportFailed, match="differs"):
            pipeline.export(FACE, Weights(), repository, **options)
        assert contents(repository) == before


def test_a_failed_gate_publishes_nothing_into_an_empty_repository(tmp_path, corrupted):
    with pytest.raises(ExportFailed, match="differs"):
        pipeline.export(FACE, Weights(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_interrupted_export_leaves_the_repository_as_it_was(repository, contents, network, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    before = contents(repository)
    monkeypatch.setattr(type(network), "tensors", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pipeline.export(FACE, Weights(), repository, force=True)
    assert contents(repository) == before


def test_an_id_of_ones_own_stands_beside_the_catalogues(repository):
    manifest = pipeline.export(FACE, Weights(), repository, as_id="faces/7")
    assert manifest.triton_name == "faces__7"
    assert {m.id for m in Repository(repository)} == {FACE, "faces/7"}
    assert (repository / "net--faces__7" / "1" / "model.onnx").is_file()


@pytest.mark.attack("names that lead out of the repository")
@pytest.mark.parametrize("name", ["../x", "a--b/1", "/x", "a b"])
def test_an_id_that_could_leave_the_repository_is_refused(tmp_path, name):
    with pytest.raises(UnknownModel):
        pipeline.export(FACE, Weights(), tmp_path, as_id=name)
    assert not list(tmp_path.iterdir())


def test_an_unknown_model_is_refused(tmp_path):
    with pytest.raises(UnknownModel):
        pipeline.export("yolov99", Weights(), tmp_path)


@pytest.mark.parametrize(
    ("module", "extra"),
    [("flatbuffers", "mediapipe"), ("onnxruntime.capi", "onnx-cpu"), ("torch", "export,torch-cpu")],
)
def test_a_missing_package_is_one_sentence_with_the_line_to_type(tmp_path, monkeypatch, module, extra):
    def find(_):
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr(registry, "find", find)
    with pytest.raises(SetupError, match=f"'{module.split('.')[0]}', which is not installed") as caught:
        pipeline.export(FACE, Weights(), tmp_path)
    assert caught.value.hint == f"Get it with: pip install 'tritonvision[{extra}]'"


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="torch is installed here")
@pytest.mark.parametrize("model", ["yolov8n-640", "resnet18"])
def test_without_torch_a_torch_family_says_what_to_install(tmp_path, model):
    with pytest.raises(SetupError, match="needs .*torch") as caught:
        pipeline.export(model, Weights("random"), tmp_path)
    assert "tritonvision[export,torch-cpu]" in caught.value.hint
    assert not list(tmp_path.iterdir())


def test_the_seed_that_was_taken_is_named_in_the_manifest_and_to_the_person(family, entry, tmp_path, monkeypatch):
    def prove_and_publish(family, entry, weights, repository, public_id, progress, needs, notes):
        if weights.seed < 2:
            raise NoSignal("All alike.")
        return weights.seed, notes

    monkeypatch.setattr(pipeline, "_prove_and_publish", prove_and_publish)
    progress = Watching()
    seed, notes = pipeline.publish_family(family, entry, Weights("random"), tmp_path, "a/1", progress)
    assert (seed, notes) == (2, ("Seed 0 carries no signal: seed 2 was taken.",))
    assert progress.notices[-2:] == [
        f"Random weights of seed {n} prove nothing, seed {n + 1} is tried: All alike." for n in range(2)
    ]


@pytest.mark.parametrize(("free", "refused"), [(9_000_000_000, True), (64_000_000_000, False)])
def test_too_little_memory_is_a_sentence_before_the_work(tmp_path, monkeypatch, free, refused):
    """The largest encoder: 2.5 GB of weights, twice, and what a run of it takes."""
    monkeypatch.setattr(memory, "free", lambda: free)
    entry, built = catalog.find("sam-vit_h"), []

    class Built(Exception):
        pass

    def build(*_):
        built.append(True)
        raise Built

    family = registry.find(entry.family)
    monkeypatch.setattr(type(family), "build", build)
    with pytest.raises(SetupError if refused else Built) as caught:
        pipeline.export(entry.id, Weights("random"), tmp_path)
    if refused:
        sentence = r"Exporting 'sam-vit_h' takes about 1\d\.\d GB of memory, and 9.0 GB are free."
        assert re.fullmatch(sentence, str(caught.value))
        assert caught.value.hint and not built and not list(tmp_path.iterdir())


def test_a_users_weights_are_counted_themselves(tmp_path):
    """A small network of a large family is exported on a small machine; the name of the id says nothing of it."""
    entry = catalog.find("sam-vit_h")
    family = registry.find(entry.family)
    header = json.dumps({"__metadata__": {"format": "pt"}, "a": {"shape": [1000, 500]}, "b": {"shape": []}}).encode()
    for name in ("model-1.safetensors", "model-2.safetensors"):
        (tmp_path / name).write_bytes(len(header).to_bytes(8, "little") + header)
    small = demand.needed(entry, family, tmp_path) - family.working_memory
    assert small == pytest.approx(demand._TRACED * 4 * 1_000_002, abs=2)
    assert demand.needed(entry, family, tmp_path / "model-1.safetensors") < small + family.working_memory
    for broken in (b"", b"\xff" * 8, (9).to_bytes(8, "little") + b"no header", (2).to_bytes(8, "little") + b"[]"):
        (tmp_path / "model-1.safetensors").write_bytes(broken)
        assert demand.needed(entry, family, tmp_path) == demand.needed(entry, family)
    assert demand.needed(entry, family, tmp_path / "weights.pth") == demand.needed(entry, family)


def test_an_id_that_no_machine_holds_names_the_engine_that_serves_it(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "free", lambda: 10**15)
    with pytest.raises(NotSupported, match="'qwen2.5-vl-72b' has 73,400 million weights") as caught:
        pipeline.export("qwen2.5-vl-72b", Weights("random"), tmp_path)
    assert "vLLM" in caught.value.hint and not list(tmp_path.iterdir())


def test_what_has_no_known_size_is_not_reckoned(monkeypatch):
    entry = replace(catalog.find("resnet18"), params_m=None)
    monkeypatch.setattr(memory, "free", lambda: 1)
    demand.require_memory(entry, registry.find(entry.family))
