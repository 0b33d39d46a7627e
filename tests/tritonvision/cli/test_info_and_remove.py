"""``info`` tells what the catalogue and the manifest know; ``remove`` takes out a model and nothing else."""

import json
import re

import pytest

from tritonvision.cli.info import info
from tritonvision.cli.remove import remove
from tritonvision.errors import InvalidParameter, SetupError, UnknownModel
from tritonvision.exporters import registry
from tritonvision.publication import MANIFEST, Manifest, Repository
from tritonvision.server.process import free_port

FACES, GAZE, BOXES = "mediapipe-face-detection", "l2cs-gaze", "my/helmets/1"


def publish(root, model: str, task: str, nets=("",), roles=("",), **more) -> None:
    manifest = Manifest(**{
        "id": model, "family": "f", "task": task, "head": "h", "weights": "random", "source": "seed 0", "sha256": "0a",
        "license": "x", "precision": "fp32", "labels": ("a", "b"), "input_size": (480, 640), "steps": ("pre--x",),
        "roles": roles, **more,
    })  # fmt: skip
    name = manifest.triton_name
    for folder in (*manifest.triton_names, *(f"net--{name}--{net}" if net else f"net--{name}" for net in nets)):
        (root / folder / "1").mkdir(parents=True)
        (root / folder / "1" / "model.onnx").write_bytes(b"x" * 500_000)
    (root / name / MANIFEST).write_text(manifest.to_json())


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository of four models and a shared step."""
    monkeypatch.setenv("TRITONVISION_PORT", str(free_port()))
    publish(tmp_path, FACES, "keypoint-detection", weights="official")
    publish(tmp_path, GAZE, "gaze-detection", needs=(FACES,), parity={"pipeline_degrees": 0.000224})
    publish(tmp_path, BOXES, "object-detection")
    publish(tmp_path, "clip/RN50", "embedding", nets=("", "text"), roles=("", "text"))
    (tmp_path / "pre--x").mkdir()
    return tmp_path


def folders(root) -> set[str]:
    return {path.name for path in root.iterdir()}


def published(root) -> set[str]:
    return {manifest.id for manifest in Repository(root)}


def test_a_removed_model_is_gone_with_its_networks_and_the_others_and_the_steps_stay(root, capsys):
    before = folders(root)
    remove(["clip/RN50", BOXES], repository=root)
    assert published(root) == {FACES, GAZE}
    assert before - folders(root) == {
        "clip__RN50", "clip__RN50--text", "net--clip__RN50", "net--clip__RN50--text", "my__helmets__1",
        "net--my__helmets__1",
    }  # fmt: skip
    assert capsys.readouterr().out.splitlines() == ["Removed clip/RN50, 2.0 MB.", "Removed my/helmets/1, 1.0 MB."]


def test_a_model_is_removed_by_any_of_its_names(root):
    remove(["timm/resnet50_clip.openai"], repository=root)
    assert "clip/RN50" not in published(root)


def test_what_another_model_asks_stays_until_that_one_is_gone(root):
    with pytest.raises(InvalidParameter, match=GAZE) as caught:
        remove([FACES], repository=root)
    assert f"tritonvision remove {GAZE}" in caught.value.hint and FACES in published(root)
    remove([GAZE, FACES], repository=root)
    assert published(root) == {BOXES, "clip/RN50"}


def test_what_is_not_published_cannot_be_removed(root):
    with pytest.raises(UnknownModel, match="'yolov8n-640' is not published here"):
        remove(["yolov8n-640"], repository=root)
    with pytest.raises(UnknownModel) as caught:
        remove(["my/helmet/1"], repository=root)
    assert "Did you mean 'my/helmets/1'?" in caught.value.hint


def test_a_repository_that_cannot_be_changed_is_as_it_was(root, monkeypatch):
    from pathlib import Path

    rename, calls = Path.rename, []

    def fail_the_second(self, target):
        calls.append(self)
        if len(calls) == 2:
            raise PermissionError(13, "no")
        return rename(self, target)

    before = folders(root)
    monkeypatch.setattr(Path, "rename", fail_the_second)
    with pytest.raises(SetupError, match="as it was"):
        remove(["clip/RN50"], repository=root)
    assert folders(root) == before


def test_info_of_a_published_model_tells_its_weights_its_proof_and_how_to_ask_it(root, capsys):
    info(GAZE, repository=root)
    told = capsys.readouterr().out
    for line in ("published", "asks +mediapipe-face-detection", "proven +pipeline_degrees 0.000224",
                 "weights +random from seed 0", "tritonvision predict l2cs-gaze photo.jpg"):  # fmt: skip
        assert re.search(line, told), line
    assert all(len(line) <= 80 for line in told.splitlines())
    info(BOXES, repository=root)
    assert re.search(r"curl --data-binary @photo.jpg http://localhost:\d+/models/my/helmets/1", capsys.readouterr().out)


def test_info_of_an_unpublished_model_tells_how_to_publish_it(root, capsys, monkeypatch):
    info("coco/3", repository=root)
    told = capsys.readouterr().out
    assert told.startswith("yolov8n-640  YOLOv8  object-detection") and "not published here" in told
    assert told.rstrip().endswith("tritonvision export yolov8n-640")
    monkeypatch.setattr(registry, "can_export", lambda entry: False)
    info("coco/3", repository=root)
    assert "cannot export it yet" in capsys.readouterr().out


def test_info_as_json_is_one_object(root, capsys):
    info("clip/RN50", json=True, repository=root)
    facts = json.loads(capsys.readouterr().out)
    assert facts["aliases"] == ["timm/resnet50_clip.openai"] and facts["published"] and facts["loaded"] is None
    assert facts["labels"] == ["a", "b"] and facts["input_size"] == [480, 640]


def test_info_of_an_unknown_id_has_a_suggestion(root):
    with pytest.raises(UnknownModel) as caught:
        info("yolov8n_640", repository=root)
    assert "Did you mean 'yolov8n-640'" in caught.value.hint


def test_a_licence_that_has_to_be_accepted_is_said_with_the_command_that_does(root, capsys):
    info("depth-anything-v2-base", repository=root)
    told = capsys.readouterr().out
    assert "CC-BY-NC-4.0 (non-commercial: it has to be accepted)" in told
    assert "tritonvision export depth-anything-v2-base --accept-license" in told
    info("depth-anything-v2-small", repository=root)
    assert "accept" not in capsys.readouterr().out
