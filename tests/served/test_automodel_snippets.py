"""The snippets about AutoModel in the documents, as printed but for the import line."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from tritonvision import AutoModel, results
from tritonvision.errors import NotSupported

PHOTO = Path(__file__).parents[2] / "tritonvision" / "data" / "astronaut.png"
# The models that the documents name, and which of the tests' stands for each of them.
PRINTED = {
    "rfdetr-base": "rfdetr-nano", "resnet50": "resnet18", "clip/ViT-B-32": "clip/RN50", "yolov8n-640": "yolov8n-640",
    "yolov8n-seg-640": "yolov8n-seg-640", "your-project/1": "rfdetr-nano",
}  # fmt: skip


@pytest.fixture(scope="module")
def printed(publish_as, tmp_path_factory):
    """AutoModel's own server over models of these names, gone with the module."""
    root = tmp_path_factory.mktemp("printed")
    for name, model in PRINTED.items():
        publish_as(root, model, name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITONVISION_REPOSITORY", str(root))
        patch.delenv("TRITONVISION_SERVER", raising=False)
        yield
    AutoModel.close()


@pytest.fixture
def snippet(printed, monkeypatch):
    """Runs a snippet whose pictures are the photograph."""
    image = cv2.imread(str(PHOTO))
    monkeypatch.setattr(cv2, "imread", lambda _: image.copy())

    def run(source: str) -> dict:
        names: dict = {"image": image, "images": [image, image]}
        exec(source, names)  # noqa: S102
        return names

    return run


QUICK_START = """
import cv2
import supervision as sv
from tritonvision import AutoModel

# Load pretrained model from Roboflow
model = AutoModel.from_pretrained("rfdetr-base"{})

# Run inference (works with numpy arrays or torch.Tensor)
image = cv2.imread("<path-to-your-image>")
predictions = model(image)

# Use with supervision
annotator = sv.BoxAnnotator()
annotated = annotator.annotate(image, predictions[0].to_supervision())
"""


@pytest.mark.parametrize("more", ["", ', backend="onnx"'])
def test_the_quick_start_runs_as_printed(snippet, more):
    names = snippet(QUICK_START.format(more))
    assert names["annotated"].shape == (512, 512, 3) and names["model"].backend == "onnx"


@pytest.mark.parametrize(("backend", "told"), [("torch", "published as onnx"), ("trt", "has not been made")])
def test_an_unpublished_backend_is_refused_with_the_published_ones(snippet, backend, told):
    with pytest.raises(NotSupported) as caught:
        snippet(QUICK_START.format(f', backend="{backend}"'))
    assert told in caught.value.message and "onnx" in caught.value.message and "leave backend out" in (
        caught.value.hint.lower()
    )


def test_a_model_of_ones_own_is_loaded_with_a_key_as_printed(snippet, capsys):
    names = snippet("""
import cv2
from tritonvision import AutoModel

# Load your custom model from Roboflow
model = AutoModel.from_pretrained(
    "your-project/1",
    api_key="<your-api-key>"
)

# Run inference
image = cv2.imread("<path-to-your-image>")
predictions = model(image)

# Print predictions
print(predictions)
""")
    assert names["model"].model_id == "your-project/1" and capsys.readouterr().out.startswith("[Detections(xyxy=array(")


def test_the_common_interfaces_run_as_printed(snippet):
    names = snippet("""
from typing import List
from tritonvision import AutoModel
from tritonvision.results import ClassificationPrediction, Detections, InstanceDetections

model = AutoModel.from_pretrained("yolov8n-640")
predictions: List[Detections] = model(images)
boxes = predictions
model = AutoModel.from_pretrained("yolov8n-seg-640")
predictions: List[InstanceDetections] = model(images)
model = AutoModel.from_pretrained("resnet50")
prediction: ClassificationPrediction = model(image)
model = AutoModel.from_pretrained("clip/ViT-B-32")
image_emb = model.embed_image(image)
text_emb = model.embed_text("a photo of a cat")
""")
    assert [type(found) for found in names["boxes"]] == [results.Detections] * 2
    assert [type(found) for found in names["predictions"]] == [results.InstanceDetections] * 2
    assert names["prediction"].confidence.shape == (1, 1000)
    assert names["image_emb"].shape == names["text_emb"].shape == (1, 1024)
