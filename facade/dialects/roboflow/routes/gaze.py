"""Roboflow's dialect: ``/gaze/gaze_detection``, the contract of the releases that had it."""

from __future__ import annotations

from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from tritonvision import tasks
from tritonvision.facade.context import service_of
from tritonvision.facade.dialects.common.body import read_body
from tritonvision.facade.dialects.common.schemas import json_schema
from tritonvision.facade.dialects.roboflow.model_choice import model_of, named
from tritonvision.facade.dialects.roboflow.routes.tasks import drawn_text
from tritonvision.facade.dialects.roboflow.schemas import PicturesRequest
from tritonvision.facade.replies import reply
from tritonvision.facade.routing import Routes
from tritonvision.facade.service import Read
from tritonvision.publication import Manifest
from tritonvision.results import Detections, KeyPoints, L2CSGazeDetection

router = Routes(tags=["Roboflow"])


class GazeRequest(PicturesRequest):
    """``/gaze/gaze_detection``. The version names the model, unless ``model_id`` does; ``confidence``, of a face, is a
    field of our own.
    """

    model_id: str = ""
    gaze_version_id: str = "L2CS"
    do_run_face_detection: bool = True
    confidence: float | None = None

    def settings(self, manifest: Manifest) -> dict[str, Any]:
        """Every setting of the task. Raises InvalidParameter."""
        given = {
            "auto_orient": not self.disable_preproc_auto_orient, "confidence": self.confidence,
            "detect_faces": self.do_run_face_detection,
        }  # fmt: skip
        return tasks.resolve(tasks.GAZE.parameters, given)


@router.post("/gaze/gaze_detection", openapi_extra=json_schema(GazeRequest))
async def gaze_detection(request: Request) -> Response:
    """Faces and their gaze. Always an array, one element a picture; angles in radians."""
    ask = await read_body(request, GazeRequest)
    service = service_of(request)
    manifest = await model_of(request, await named(request, ask, "gaze", "gaze_version_id"), (tasks.GAZE.name,))
    reads: list[Read] = [partial(service.pictures.read, image.type, image.value) for image in ask.images]
    answered = await service.ask(request, manifest, reads, ask.settings(manifest))
    answers = []
    for picture, result in zip(answered.pictures, answered.results, strict=True):
        answer = gaze(result) | {"time": answered.seconds}
        if ask.visualize_predictions:
            answer["visualization"] = await drawn_text(ask, picture, result, answered.manifest)
        answers.append(answer)
    return reply(answers)


def gaze(result: tuple[KeyPoints, Detections, L2CSGazeDetection]) -> dict[str, Any]:
    """``predictions`` of one picture, and how long each of the two models took, where that is known (seconds)."""
    points, faces, angles = result
    rows = zip(
        faces.xyxy.tolist(), faces.confidence.tolist(), points.xy.tolist(), angles.yaw.tolist(), angles.pitch.tolist(),
        strict=True,
    )  # fmt: skip
    face_seconds, gaze_seconds = (faces.image_metadata or {}).get("seconds", (None, None))
    return {
        "predictions": [
            {
                "face": {
                    "x": (x1 + x2) / 2, "y": (y1 + y2) / 2, "width": x2 - x1, "height": y2 - y1, "confidence": score,
                    "class": "face", "class_id": 0, "landmarks": [{"x": x, "y": y} for x, y in landmarks],
                },
                "yaw": yaw,
                "pitch": pitch,
            }
            for (x1, y1, x2, y2), score, landmarks, yaw, pitch in rows
        ],
        "time_face_det": face_seconds,
        "time_gaze_det": gaze_seconds,
    }  # fmt: skip
