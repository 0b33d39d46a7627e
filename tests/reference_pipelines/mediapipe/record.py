"""Record mediapipe's answers to the pictures of exporters/parity/sample_pictures.py.

    python tests/reference_pipelines/mediapipe/record.py exporters/families/mediapipe_face/golden.json

Runs in an environment of its own (mediapipe==0.10.21 wants other versions of protobuf than serving does) with the root
of the checkout on PYTHONPATH; nothing of tritonvision is installed there.
"""

import hashlib
import importlib.util
import json
import sys
from importlib import metadata
from pathlib import Path

import mediapipe as mp

ROOT = Path(__file__).resolve().parents[3]
CALL = "mp.solutions.face_detection.FaceDetection(model_selection=0, min_detection_confidence=0.5).process(rgb)"


def record() -> dict:
    """The golden file: boxes (x, y, width, height) and points as fractions of the picture, just as mediapipe says."""
    sys.path.insert(0, str(ROOT))
    spec = importlib.util.spec_from_file_location(
        "sample_pictures", ROOT / "exporters" / "parity" / "sample_pictures.py"
    )
    sample_pictures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sample_pictures)
    return {
        "oracle": {"package": "mediapipe", "version": metadata.version("mediapipe"), "call": CALL},
        "pictures": [
            {
                "name": name, "width": picture.shape[1], "height": picture.shape[0],
                "sha256": hashlib.sha256(picture.tobytes()).hexdigest(), "faces": faces(picture),
            }
            for name, picture in sample_pictures.views().items()
        ],
    }  # fmt: skip


def faces(picture) -> list[dict]:
    """A detector of its own for each picture, so that none knows of another."""
    with mp.solutions.face_detection.FaceDetection(model_selection=0, min_detection_confidence=0.5) as detector:
        detections = detector.process(picture).detections or []
    rows = []
    for detection in detections:
        box = detection.location_data.relative_bounding_box
        rows.append({
            "score": detection.score[0],
            "box": [box.xmin, box.ymin, box.width, box.height],
            "keypoints": [[point.x, point.y] for point in detection.location_data.relative_keypoints],
        })  # fmt: skip
    return rows


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(record(), indent=1) + "\n")
