"""Roboflow's dialect: ``/doctr/ocr`` and ``/easy_ocr/ocr``, whole pages, and ``/ocr/trocr``, single lines."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any

from starlette.requests import Request
from starlette.responses import Response

from tritonvision import tasks
from tritonvision.errors import InvalidParameter
from tritonvision.facade.context import service_of
from tritonvision.facade.dialects.common.body import read_body
from tritonvision.facade.dialects.common.schemas import AtMost, json_schema
from tritonvision.facade.dialects.roboflow import responses as formats
from tritonvision.facade.dialects.roboflow.model_choice import model_of, named
from tritonvision.facade.dialects.roboflow.schemas import ImageRequest
from tritonvision.facade.replies import reply
from tritonvision.facade.routing import Routes
from tritonvision.facade.service import Answered, Read
from tritonvision.publication import Manifest
from tritonvision.results import Detections, parts

router = Routes(tags=["Roboflow"])
_ENGLISH = "easyocr-en"


class PageRequest(ImageRequest):
    """``/doctr/ocr``. The version names the model, unless ``model_id`` does."""

    model_id: str = ""
    doctr_version_id: str = "default"
    generate_bounding_boxes: bool = False

    def settings(self, manifest: Manifest) -> dict[str, Any]:
        """Every setting of the task."""
        return tasks.resolve(tasks.STRUCTURED_OCR.parameters, {"auto_orient": not self.disable_preproc_auto_orient})


class RegionsRequest(ImageRequest):
    """``/easy_ocr/ocr``. The version names the model, unless ``model_id`` does.

    Which languages a model reads and in which precision is decided when it is exported: ``language_codes`` are checked
    where a model reads English alone, ``quantize`` changes nothing.
    """

    model_id: str = ""
    easy_ocr_version_id: str = "english_g2"
    language_codes: Annotated[list[str], AtMost("max_texts")] = ["en"]
    quantize: bool = False

    def settings(self, manifest: Manifest) -> dict[str, Any]:
        """Every setting of the task. Raises InvalidParameter."""
        foreign = sorted(set(self.language_codes) - {"en"})
        if foreign and manifest.id == _ENGLISH:
            raise InvalidParameter(
                f"'{manifest.id}' reads English, not '{foreign[0][:40]}'.",
                hint="Name a pack of that language with 'easy_ocr_version_id', for instance latin_g2.",
            )
        return tasks.resolve(tasks.STRUCTURED_OCR.parameters, {"auto_orient": not self.disable_preproc_auto_orient})


class LineRequest(ImageRequest):
    """``/ocr/trocr``. The version names the model, unless ``model_id`` does; ``max_new_tokens`` and ``num_beams`` are
    fields of our own, the checkpoint's where they are absent.
    """

    model_id: str = ""
    trocr_version_id: str = "trocr-base-printed"
    max_new_tokens: int | None = None
    num_beams: int | None = None

    def settings(self, manifest: Manifest) -> dict[str, Any]:
        """Every setting of the task. Raises InvalidParameter."""
        return tasks.resolve(tasks.TEXT_OCR.parameters, {
            "auto_orient": not self.disable_preproc_auto_orient, "max_new_tokens": self.max_new_tokens,
            "num_beams": self.num_beams,
        })  # fmt: skip


@router.post("/doctr/ocr", openapi_extra=json_schema(PageRequest))
async def doctr(request: Request) -> Response:
    """The text of each page; with ``generate_bounding_boxes`` also where its blocks, lines and words are."""
    ask = await read_body(request, PageRequest)
    name = await named(request, ask, "doctr", "doctr_version_id")
    answered = await _ask(request, ask, name, tasks.STRUCTURED_OCR.name)
    answers = []
    for text, found in answered.results:
        answer = _head(text, answered, ask)
        if ask.generate_bounding_boxes:
            answer |= page(found, answered.manifest)
        answers.append(answer)
    return reply(answers if ask.many else answers[0])


@router.post("/easy_ocr/ocr", openapi_extra=json_schema(RegionsRequest))
async def easy_ocr(request: Request) -> Response:
    """The text of each page and its regions, whose class is their text."""
    ask = await read_body(request, RegionsRequest)
    name = await named(request, ask, "easy_ocr", "easy_ocr_version_id")
    answered = await _ask(request, ask, name, tasks.STRUCTURED_OCR.name)
    answers = []
    for _, found in answered.results:
        predictions = regions(found, answered.manifest)
        text = " ".join(region["class"] for region in predictions["predictions"])
        answers.append(_head(text, answered, ask) | predictions)
    return reply(answers if ask.many else answers[0])


@router.post("/ocr/trocr", openapi_extra=json_schema(LineRequest))
async def trocr(request: Request) -> Response:
    """The text of a picture that shows one line."""
    ask = await read_body(request, LineRequest)
    if ask.many:
        raise InvalidParameter("One picture is read a request, not an array.")
    answered = await _ask(request, ask, await named(request, ask, "trocr", "trocr_version_id"), tasks.TEXT_OCR.name)
    return reply(_head(answered.results[0], answered, ask))


async def _ask(request: Request, ask: PageRequest | RegionsRequest | LineRequest, name: str, task: str) -> Answered:
    service = service_of(request)
    manifest = await model_of(request, name, (task,))
    reads: list[Read] = [partial(service.pictures.read, image.type, image.value) for image in ask.images]
    return await service.ask(request, manifest, reads, ask.settings(manifest))


def _head(text: str, answered: Answered, ask: ImageRequest) -> dict[str, Any]:
    return {
        "inference_id": ask.id or str(uuid.uuid4()), "result": text, "time": answered.seconds, "parent_id": None,
    }  # fmt: skip


def page(found: Detections, manifest: Manifest) -> dict[str, Any]:
    """``image`` and ``predictions``: regions, certain as the contract has them, whose class is their kind.

    ``text`` is a field of our own, and so are ``points``, the corners of regions that may be turned; ``parent_id`` is
    the ``detection_id`` of the line or block that a region lies in. ``orientation`` is a field of our own, too: the
    degrees by which the page has to be turned, of models that tell them.
    """
    answer = formats.detections(found, manifest)
    told = found.image_metadata or {}
    answer |= {name: told[name] for name in ("orientation",) if name in told}
    listed = answer["predictions"]
    for region, more in zip(listed, found.bboxes_metadata or [], strict=True):
        region |= {"confidence": 1.0, "text": more["text"], **_points(more)}
        if more["parent"] >= 0:
            region["parent_id"] = listed[more["parent"]]["detection_id"]
    return answer


def regions(found: Detections, manifest: Manifest) -> dict[str, Any]:
    """``image`` and ``predictions``: the smallest regions of a page, whose class is their text, as the contract has it.

    ``text`` and ``points`` are fields of our own, see :func:`page`.
    """
    answer = formats.detections(found, manifest)
    told = found.bboxes_metadata or []
    answer["predictions"] = [
        answer["predictions"][row]
        | {"class": told[row]["text"], "class_id": 0, "text": told[row]["text"], **_points(told[row])}
        for row in parts(found)
    ]
    return answer


def _points(more: Mapping[str, Any]) -> dict[str, list[dict[str, float]]]:
    return {"points": [{"x": x, "y": y} for x, y in more["polygon"]]} if "polygon" in more else {}
