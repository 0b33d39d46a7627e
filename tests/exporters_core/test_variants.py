"""Variants are added, chosen and taken away by renames; whatever goes wrong, the repository is as it was."""

import json
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from tritonvision import machine
from tritonvision.differences import PRECISION_BARS
from tritonvision.errors import ExportFailed, InvalidParameter, SetupError, UnknownModel
from tritonvision.exporters import pipeline, publish, removal, variants
from tritonvision.exporters.contract import Weights
from tritonvision.exporters.variants import folders
from tritonvision.publication import Repository, locked
from tritonvision.variants import Variant

pytest.importorskip("openvino")
FACE, BASE, VARIANT = "mediapipe-face-detection", "onnxruntime-fp32", "openvino-fp32"
NET = f"net--{FACE}"
OLD = Path(__file__).parents[1] / "data" / "published_0_1"


@pytest.fixture
def root(repository, tmp_path):
    """A repository of its own with the face model."""
    return Path(shutil.copytree(repository, tmp_path / "models"))


@pytest.fixture
def varied(with_variant, tmp_path):
    """A repository of its own with the face model and a variant of it that does not serve."""
    return Path(shutil.copytree(with_variant, tmp_path / "models"))


def parameter(config: Path, name: str) -> str:
    parsed = text_format.Parse(config.read_text(), model_config_pb2.ModelConfig())
    return parsed.parameters[name].string_value


def test_a_variant_stands_beside_what_serves(with_variant, repository):
    manifest = Repository(with_variant).get(FACE)
    (variant,) = manifest.variants
    assert (variant.name, manifest.serving, manifest.serving_variant) == (VARIANT, "", None)
    assert variant.shown == "agreement" and variant.figures["matched"] >= 0.99
    assert variant.milliseconds > 0 and variant.base_milliseconds > 0
    assert variant.graph_bytes == manifest.graph_bytes  # OpenVINO reads the graph itself
    assert manifest.without_variants() == Repository(repository).get(FACE).without_variants()
    configs = with_variant / NET / "configs"
    assert sorted(path.name for path in configs.iterdir()) == [f"{BASE}.pbtxt", f"{VARIANT}.pbtxt"]
    assert (with_variant / NET / "config.pbtxt").read_text() == (configs / f"{BASE}.pbtxt").read_text()
    assert 'backend: "openvino"' in (configs / f"{VARIANT}.pbtxt").read_text()


def test_the_one_that_serves_is_the_config_that_triton_reads(varied):
    net, public = varied / NET, varied / FACE
    graph = (net / "1" / "model.onnx").stat().st_ino
    for name, serving in ((VARIANT, VARIANT), (BASE, "")):
        manifest = variants.use(varied, FACE, name)
        assert manifest.serving == serving == Repository(varied).get(FACE).serving
        assert (net / "config.pbtxt").read_text() == (net / "configs" / f"{name}.pbtxt").read_text()
        assert json.loads(parameter(public / "config.pbtxt", "manifest")) == json.loads(manifest.to_json())
        assert variants.use(varied, FACE, name) is manifest  # nothing to do
    assert (net / "1" / "model.onnx").stat().st_ino == graph, "graphs are linked and not written again"
    assert not (varied / ".staging").exists()


def test_a_variant_that_serves_stays_and_one_that_does_not_goes_with_all_it_brought(varied, repository, contents):
    variants.use(varied, FACE, VARIANT)
    before = contents(varied)
    with pytest.raises(InvalidParameter, match="serves") as refusal:
        variants.remove(varied, FACE, VARIANT)
    assert refusal.value.hint.endswith(f"tritonvision variants use {FACE} {BASE}")
    assert contents(varied) == before
    with pytest.raises(InvalidParameter, match="was exported, so it stays"):
        variants.remove(varied, FACE, BASE)
    variants.use(varied, FACE, BASE)
    variants.remove(varied, FACE, VARIANT)
    assert Repository(varied).get(FACE) == Repository(repository).get(FACE)
    names = {path.relative_to(varied).as_posix() for path in varied.rglob("*") if path.is_file()}
    assert names == {path.relative_to(repository).as_posix() for path in repository.rglob("*") if path.is_file()}


@pytest.mark.parametrize("change", [variants.use, variants.remove])
def test_a_variant_that_is_not_there_is_named_with_those_that_are(varied, change):
    with pytest.raises(InvalidParameter, match="no variant 'openvino-fp23'") as refusal:
        change(varied, FACE, "openvino-fp23")
    assert "Did you mean 'openvino-fp32'?" in refusal.value.hint and BASE in refusal.value.hint


@pytest.mark.parametrize(
    ("engine", "precision", "kind", "words"),
    [
        ("openvyno", "fp32", InvalidParameter, "No engine is called 'openvyno'"),
        ("openvino", "fp7", InvalidParameter, "no variants of openvino in 'fp7'"),
        ("onnxruntime", "fp32", InvalidParameter, "always there"),
        ("tensorrt", "fp16", SetupError, "'tensorrt' is not installed"),
        ("openvino", "bf16", SetupError, "does not compute in bf16"),
    ],
)
def test_what_cannot_be_had_here_is_one_sentence(root, contents, monkeypatch, engine, precision, kind, words):
    monkeypatch.setattr(machine, "cpu_flags", lambda: frozenset({"avx2"}))
    before = contents(root)
    with pytest.raises(kind, match=words) as refusal:
        variants.add(root, FACE, engine, precision)
    assert refusal.value.hint or "always there" in words
    assert contents(root) == before


def test_what_is_not_published_has_no_variants(root):
    with pytest.raises(UnknownModel):
        variants.add(root, "yolov8n-640", "openvino", "fp32")


def test_what_no_load_would_let_serve_is_refused_with_figure_and_bar(root, contents):
    """The answer that was recorded is another one: as if the variant answered otherwise."""
    stored = root / FACE / "golden" / "answer.npz"
    with np.load(stored) as found:
        changed = {name: found[name] for name in found.files}
    changed["out/boxes"] = changed["out/boxes"] + np.float32(9)
    stored.unlink()  # it may have a second name
    np.savez(stored, **changed)
    before = contents(root)
    with pytest.raises(ExportFailed, match="does not answer the golden question as fp32 does: boxes 9 > 0.003"):
        variants.add(root, FACE, "openvino", "fp32")
    assert contents(root) == before


@pytest.mark.skipif(bool(machine.why_not("openvino", "bf16")), reason="the processor does not compute in bf16")
def test_a_reduced_precision_is_published_with_what_its_golden_answers_differ_by(root):
    (variant,) = variants.add(root, FACE, "openvino", "bf16").variants
    (figures,) = variant.golden.values()
    assert figures["missing"] == 0 < figures["boxes_apart"] < PRECISION_BARS["boxes_apart"]


def test_a_folder_without_pictures_changes_nothing(root, contents, tmp_path):
    (tmp_path / "empty").mkdir()
    before = contents(root)
    with pytest.raises(ExportFailed, match="holds no pictures"):
        variants.add(root, FACE, "openvino", "fp32", calibrate=tmp_path / "empty")
    assert contents(root) == before


class Meanwhile(pipeline.Quiet):
    """A progress during whose first stage something else happens."""

    def __init__(self, do):
        self._do = do

    def stage(self, name):
        do, self._do = self._do, lambda: None
        do()


def test_a_model_that_is_published_again_meanwhile_keeps_no_variant_of_the_one_before(root):
    def publish_again():
        path = root / FACE / "manifest.json"
        path.write_text(replace(Repository(root).get(FACE), sha256="another").to_json())

    with pytest.raises(ExportFailed, match="published again or removed meanwhile"):
        variants.add(root, FACE, "openvino", "fp32", progress=Meanwhile(publish_again))
    assert Repository(root).get(FACE).variants == () and not (root / NET / "configs").exists()


def test_two_that_are_added_at_once_are_both_there(root):
    other = Variant("openvino", "int8", ("",))

    def add_other():
        manifest = Repository(root).get(FACE)
        with publish.staging(root) as folder:
            variants._put(root, folder, manifest, lambda now: replace(now, variants=(other,)), {})

    manifest = variants.add(root, FACE, "openvino", "fp32", serve=True, progress=Meanwhile(add_other))
    assert [variant.name for variant in manifest.variants] == ["openvino-int8", VARIANT]
    assert manifest.serving == VARIANT
    assert len(list((root / NET / "configs").iterdir())) == 3


@pytest.mark.parametrize("failing", range(5))
def test_a_disk_that_is_full_leaves_the_repository_as_it_was(varied, contents, monkeypatch, failing):
    before, write, written = contents(varied), folders.write, []

    def full(path, text):
        written.append(path)
        if len(written) > failing:
            raise OSError(28, "No space left on device")
        write(path, text)

    monkeypatch.setattr(folders, "write", full)
    with pytest.raises(SetupError, match="as it was"):
        variants.use(varied, FACE, VARIANT)
    assert contents(varied) == before


def test_publishing_again_and_removing_take_the_variants_along(varied):
    variants.use(varied, FACE, VARIANT)
    manifest = pipeline.export(FACE, Weights("official"), varied, force=True)
    assert (manifest.variants, manifest.serving) == ((), "")
    assert not (varied / NET / "configs").exists()
    assert 'backend: "onnxruntime"' in (varied / NET / "config.pbtxt").read_text()
    removal.remove(Repository(varied), manifest)
    assert not (varied / NET).exists() and not (varied / FACE).exists()


def test_a_model_of_0_1_takes_a_variant(tmp_path):
    root = Path(shutil.copytree(OLD, tmp_path / "models"))
    manifest = variants.add(root, "colours", "openvino", "fp32", serve=True)
    assert manifest.serving == VARIANT
    configs = root / "net--colours" / "configs"
    assert sorted(path.name for path in configs.iterdir()) == [f"{BASE}.pbtxt", f"{VARIANT}.pbtxt"]


def test_the_file_of_a_variant_goes_with_it(varied, contents, tmp_path):
    """As int8 brings one; what it holds is of no matter here."""
    before = contents(varied)
    (tmp_path / "x.xml").write_text("<net/>")
    place = f"{NET}/1/openvino-int8.xml"
    variant = Variant("openvino", "int8", ("",), files={place: "0"})
    manifest = Repository(varied).get(FACE)
    with publish.staging(varied) as folder:
        shutil.copy(tmp_path / "x.xml", folder)
        both = replace(manifest, variants=(*manifest.variants, variant))
        variants._put(varied, folder, manifest, lambda _: both, {place: folder / "x.xml"})
    assert (varied / place).read_text() == "<net/>"
    assert "openvino-int8.xml" in (varied / NET / "configs" / "openvino-int8.pbtxt").read_text()
    variants.use(varied, FACE, VARIANT)
    assert (varied / place).is_file(), "another variant's choice leaves it"
    variants.use(varied, FACE, BASE)
    variants.remove(varied, FACE, "openvino-int8")
    assert contents(varied) == before


def test_a_folder_on_another_file_system_is_copied(tmp_path):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        if os.stat(other).st_dev == tmp_path.stat().st_dev:
            pytest.skip("the folder of temporary files is in memory, too")
        (Path(other) / "1").mkdir()
        (Path(other) / "1" / "model.onnx").write_bytes(b"graph")
        folders.link(Path(other), tmp_path / "copy", ())
    assert (tmp_path / "copy" / "1" / "model.onnx").read_bytes() == b"graph"


def test_networks_of_an_own_process_are_changed_in_the_config_of_that_process(served_repository, tmp_path):
    model, name = "tests/small-vlm/1", "tests__small-vlm__1"
    root = tmp_path / "models"
    shutil.copytree(served_repository / name, root / name, copy_function=os.link)
    before = (root / name / "config.pbtxt").read_text()
    manifest = Repository(root).get(model)
    with publish.staging(root) as folder:
        added = replace(manifest, variants=(Variant("openvino", "bf16", ("vision",)),))
        variants._put(root, folder, manifest, lambda _: added, {})
    assert parameter(root / name / "config.pbtxt", "sessions") == json.dumps(
        {"vision": "vision.onnx", "embed": "embed.onnx", "decoder": "decoder.onnx"}
    )
    chosen = root / name / "configs" / "openvino-bf16.pbtxt"
    sessions = json.loads(parameter(chosen, "sessions"))
    assert sessions["vision"] == {"file": "vision.onnx", "engine": "openvino", "precision": "bf16"}
    assert sessions["decoder"] == "decoder.onnx"
    assert json.loads(parameter(chosen, "manifest"))["serving"] == "openvino-bf16"
    assert (served_repository / name / "config.pbtxt").read_text() == before, "linked files are not written to"


def test_a_composition_is_told_which_variant_its_networks_run_as(served_repository, tmp_path):
    """What it caches of the networks of one variant is no answer of another's."""
    root = tmp_path / "models"
    for name in ("sam-vit_b", "net--sam-vit_b--encoder", "net--sam-vit_b--decoder"):
        shutil.copytree(served_repository / name, root / name, copy_function=os.link)
    manifest = Repository(root).get("sam-vit_b")
    with publish.staging(root) as folder:
        added = replace(manifest, variants=(Variant("openvino", "bf16", ("encoder", "decoder")),))
        variants._put(root, folder, manifest, lambda _: added, {})
    configs = root / "sam-vit_b" / "configs"
    assert parameter(configs / "openvino-bf16.pbtxt", "variant") == "openvino-bf16"
    assert parameter(configs / f"{BASE}.pbtxt", "variant") == ""
    assert parameter(root / "sam-vit_b" / "config.pbtxt", "variant") == ""


def test_an_export_tries_bf16_by_itself_only_where_the_machine_computes_in_it(root, monkeypatch):
    manifest = Repository(root).get(FACE)
    monkeypatch.setattr(machine, "cpu_flags", lambda: frozenset({"avx2"}))
    assert variants.auto(root, manifest) is manifest
    monkeypatch.setattr(machine, "cpu_flags", lambda: frozenset({"avx512_bf16"}))
    after = variants.auto(root, manifest)
    assert after.serving == "openvino-bf16" or after.notes[-1].startswith("It is served as it was exported")
    with locked(root):
        assert Repository(root).get(FACE) == after
