"""MediaPipe's faces through the running server, against the answers recorded from mediapipe itself.

    python benchmarks/faces.py --repository DIR     (mediapipe-face-detection published there)
"""

from __future__ import annotations

import argparse
import base64
import io
from pathlib import Path

import machine
import numpy as np
from PIL import Image
from served import Served

from tritonvision import catalog
from tritonvision.exporters import registry
from tritonvision.exporters.contract import Weights

MODEL = "mediapipe-face-detection"


def main() -> None:
    """Ask about every recorded picture and print a table in Markdown."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repository", type=Path, required=True)
    options = parser.parse_args()
    network = registry.find("MediaPipe Face").build(catalog.find(MODEL), Weights("official"))
    print(f"{machine.describe()}; real weights, HTTP, base64 PNG\n")
    print("| picture | faces, mediapipe | faces, ours | worst score | worst pixel of boxes and points |")
    print("|---|---|---|---|---|")
    with Served(options.repository, MODEL) as server:
        for picture, parameters, wanted in network.golden():
            stream = io.BytesIO()
            Image.fromarray(picture).save(stream, "PNG")
            image = {"type": "base64", "value": base64.b64encode(stream.getvalue()).decode()}
            body = {"model_id": MODEL, "image": image, **parameters}
            found = server.post("/infer/keypoints_detection", body)["predictions"]
            print(row(picture, found, wanted))


def row(picture: np.ndarray, found: list[dict], wanted: dict[str, np.ndarray]) -> str:
    """One row of the table; the faces of both sides are sorted, best first."""
    scores, pixels = [0.0], [0.0]
    for face, box, score, points in zip(found, wanted["boxes"], wanted["scores"], wanted["keypoints"], strict=False):
        ours = [face["x"] - face["width"] / 2, face["y"] - face["height"] / 2]
        ours += [ours[0] + face["width"], ours[1] + face["height"]]
        scores.append(abs(face["confidence"] - score))
        pixels += [np.abs(np.array(ours) - box).max()]
        pixels += [np.abs(np.array([[p["x"], p["y"]] for p in face["keypoints"]]) - points).max()]
    size = f"{picture.shape[1]} x {picture.shape[0]}"
    return f"| {size} | {len(wanted['scores'])} | {len(found)} | {max(scores):.1e} | {max(pixels):.1e} |"


if __name__ == "__main__":
    main()
