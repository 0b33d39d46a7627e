"""Which variant of a model serves, on the real server: changed while requests run, and where one cannot run."""

import json
import shutil
import threading
from dataclasses import replace

import httpx
import pytest

from tritonvision.exporters import publish, variants
from tritonvision.publication import Repository, locked
from tritonvision.variants import Variant

pytest.importorskip("openvino")
MODEL, VARIANT = "resnet18", "openvino-fp32"
FACE = "mediapipe-face-detection"
WAIT = {"x-wait-for-model": "true"}


@pytest.fixture(scope="module")
def root(publish_as, tmp_path_factory):
    """A repository with a classifier that can run on OpenVINO, in fp32: any processor does that."""
    root = tmp_path_factory.mktemp("repository") / "models"
    root.mkdir()
    for name in (MODEL, "variants/1", "variants/2"):
        publish_as(root, MODEL, name)
    return root


@pytest.fixture(scope="module")
def url(root, serve_with):
    variants.add(root, MODEL, "openvino", "fp32")
    with serve_with("--repository", str(root)) as url:
        yield url


def ask(url, photo, model=MODEL):
    return httpx.post(f"{url}/models/{model}", content=photo, headers=WAIT, timeout=120)


def served(url, model=MODEL):
    """What the registry says of a loaded model: the variant that runs, and why not another."""
    listed = httpx.get(f"{url}/model/registry", timeout=30).json()["models"]
    return next((m["variant"], m["variant_note"]) for m in listed if m["model_id"] == model)


def test_changing_the_variant_fails_no_request(url, root, photo):
    first = ask(url, photo).json()
    assert served(url) == ("onnxruntime-fp32", "")
    done, answers, failures = threading.Event(), [], []

    def keep_asking():
        while not done.is_set():
            answer = ask(url, photo)
            (answers if answer.status_code == 200 else failures).append(answer)

    threads = [threading.Thread(target=keep_asking) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for name in (VARIANT, "onnxruntime-fp32", VARIANT):
            variants.use(root, MODEL, name)
            assert ask(url, photo).status_code == 200
            assert served(url) == (name, "")
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not failures, failures[0].text
    assert len(answers) >= 4
    for answer in answers:
        assert answer.json()[0]["label"] == first[0]["label"]
        assert answer.json()[0]["score"] == pytest.approx(first[0]["score"], abs=1e-4)


def test_a_variant_that_this_machine_cannot_run_leaves_the_model_as_it_was_exported(url, root, photo):
    """A repository that was filled on another machine: the registry says why."""
    other = Variant("tensorrt", "fp16", ("",), 8)
    with locked(root):
        manifest = replace(Repository(root).get("variants/1"), variants=(other,), serving=other.name)
        (root / "variants__1" / "manifest.json").write_text(manifest.to_json())
    assert ask(url, photo, "variants/1").status_code == 200
    name, why = served(url, "variants/1")
    assert name == "onnxruntime-fp32" and why == "The package 'tensorrt' is not installed."


@pytest.mark.parametrize("damage", ["a changed file", "a file that is no network"])
def test_a_damaged_variant_leaves_the_model_as_it_was_exported(url, root, photo, damage):
    net = root / f"net--{MODEL}"
    manifest = Repository(root).get("variants/2")
    file = net / "1" / "openvino-int8.xml"
    file.write_text(f"<net><!-- {damage} --></net>")
    hashes = {f"{net.name}/1/{file.name}": "0" * 64} if damage == "a changed file" else {}
    with locked(root):
        (net / "configs" / "openvino-int8.pbtxt").write_text(
            (net / "configs" / f"{VARIANT}.pbtxt").read_text().replace("model.onnx", file.name)
        )
        broken = Variant("openvino", "int8", ("",), files=hashes)
        changed = replace(manifest, variants=(broken,), serving=broken.name, notes=(damage,))
        (root / "variants__2" / "manifest.json").write_text(changed.to_json())
    assert ask(url, photo, "variants/2").status_code == 200
    name, why = served(url, "variants/2")
    assert name == "onnxruntime-fp32" and json.dumps(why) != '""'


@pytest.mark.parametrize(("darker", "measured"), [
    (60.0, {}), (2.0, {"missing": 0.0, "boxes_apart": 0.006, "scores_apart": 0.001}),
], ids=["nearly black", "half as bright as it was when it was added"])  # fmt: skip
def test_a_variant_that_answers_its_golden_question_otherwise_leaves_the_model_as_it_was_exported(
    repository, serve_with, photo, tmp_path, darker, measured
):
    """It passed the gate, and its file is what was published: here one that sees every picture darker."""
    import openvino
    from openvino.preprocess import PrePostProcessor

    root = shutil.copytree(repository, tmp_path / "models")
    manifest = Repository(root).get(FACE)
    network = PrePostProcessor(openvino.Core().read_model(root / f"net--{FACE}" / "1" / "model.onnx"))
    network.input("pixels").preprocess().convert_element_type(openvino.Type.f32).scale(darker).convert_element_type(
        openvino.Type.u8
    )
    variant = Variant("openvino", "int8", ("",), golden={"": measured})
    with publish.staging(root) as folder:
        openvino.save_model(network.build(), folder / "net.xml", compress_to_fp16=False)
        changed = replace(manifest, variants=(variant,), serving=variant.name)
        files = {f"net--{FACE}/1/openvino-int8.{end}": folder / f"net.{end}" for end in ("xml", "bin")}
        variants._put(root, folder, manifest, lambda _: changed, files)
    with serve_with("--repository", str(root)) as url:
        answer = ask(url, photo, FACE)
        assert answer.status_code == 200 and answer.json()[0]["score"] > 0.8
        name, why = served(url, FACE)
        assert name == "onnxruntime-fp32" and "its network differs" in why
