"""Gaze: the published face model finds the faces of a picture, then the network computes the gaze of each."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from PIL import Image

from tritonvision import tasks
from tritonvision.pictures import decode, size_of
from tritonvision.python_backend.runtime.networks import Call

TASK = tasks.GAZE
FACES = "mediapipe-face-detection"
# Overlap of faces that are one, as mediapipe's own graph has it.
_OVERLAP = 0.3
_FACE_SIDE = 224  # pixels of a face before the second resize; the authors' code resizes twice
_MOST = 8  # faces in one batch of the network


class Composition:
    """Faces and gaze of one picture.

    Args:
        call: runs the network (role ``""``) and the face model.
        options: ``side``, pixels of the network's square input.
    """

    def __init__(self, call: Call, options: Mapping[str, Any]):
        self._call = call
        self._side = int(options["side"])

    def answer(
        self, sample: Mapping[str, Any], parameters: Mapping[str, Any], wanted: set[str] | None = None
    ) -> dict[str, np.ndarray]:
        """One picture's faces, best first, and their angles.

        Args:
            sample: ``image``, an encoded picture or ``.npy`` bytes.
            parameters: settings of the gaze task, resolved.

        Returns:
            ``boxes`` float32 ``[n,4]`` corners and ``keypoints`` float32 ``[n,6,2]`` in pixels, ``scores`` float32
            ``[n]``, ``yaw`` and ``pitch`` float32 ``[n]`` radians, ``image_size`` int32 ``[2]`` (height, width), and
            ``seconds`` float32 ``[2]``: the time to find the faces, and the rest. With ``detect_faces`` off the whole
            picture is one face without key points.
        """
        began = time.perf_counter()
        picture = None if parameters["detect_faces"] else decode(sample["image"], parameters["auto_orient"])
        found = self._faces(sample["image"], parameters) if picture is None else _whole(*size_of(picture))
        middle = time.perf_counter()
        faces = []
        if len(found["boxes"]):
            picture = decode(sample["image"], parameters["auto_orient"]) if picture is None else picture
            faces = [face(picture, box, self._side) for box in found["boxes"]]
        yaw, pitch = self._angles(faces)
        seconds = np.array([middle - began, time.perf_counter() - middle], dtype=np.float32)
        return {**found, "yaw": yaw, "pitch": pitch, "seconds": seconds}

    def _faces(self, image: bytes, parameters: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Boxes, scores, key points and picture size as the face model answers them."""
        settings = {
            "auto_orient": parameters["auto_orient"], "confidence": parameters["confidence"], "iou_threshold": _OVERLAP,
        }  # fmt: skip
        inputs = {
            "image": np.array([[image]], dtype=object),
            "parameters": np.array([[json.dumps(settings).encode()]], dtype=object),
        }
        answer = self._call(FACES, inputs, ["boxes", "scores", "keypoints", "image_size"])
        return {name: value[0] for name, value in answer.items()}

    def _angles(self, faces: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Yaw and pitch of each face, float32 ``[n]`` radians."""
        angles = [np.zeros((0, 2), dtype=np.float32)]
        for start in range(0, len(faces), _MOST):
            answer = self._call("", {"pixels": np.stack(faces[start : start + _MOST])}, ["yaw", "pitch"])
            angles.append(np.concatenate([answer["yaw"], answer["pitch"]], axis=1))
        yaw, pitch = np.concatenate(angles).T
        return np.ascontiguousarray(yaw), np.ascontiguousarray(pitch)


def face(picture: np.ndarray, box: np.ndarray, side: int) -> np.ndarray:
    """The face in ``box`` as the network sees it: RGB uint8 ``[side, side, 3]``.

    The authors' steps: whole pixels of the box, to 224 x 224 by OpenCV, to the network's side by Pillow, bilinear both
    times. A box narrower than a pixel, on which their code fails, becomes the pixel it lies in.
    """
    height, width = picture.shape[:2]
    left, top = min(max(int(box[0]), 0), width - 1), min(max(int(box[1]), 0), height - 1)
    right, bottom = max(int(box[2]), left + 1), max(int(box[3]), top + 1)
    small = cv2.resize(picture[top:bottom, left:right], (_FACE_SIDE, _FACE_SIDE), interpolation=cv2.INTER_LINEAR)
    return np.asarray(Image.fromarray(small).resize((side, side), Image.Resampling.BILINEAR))


def _whole(height: int, width: int) -> dict[str, np.ndarray]:
    """The whole picture as one face of score 1."""
    return {
        "boxes": np.array([[0, 0, width, height]], dtype=np.float32),
        "scores": np.ones(1, dtype=np.float32),
        "keypoints": np.zeros((1, 0, 2), dtype=np.float32),
        "image_size": np.array([height, width], dtype=np.int32),
    }
