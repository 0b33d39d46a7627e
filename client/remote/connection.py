"""Runs inference on a tritonvision server over its HTTP routes, with the same answers as over gRPC."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import fields, replace
from typing import Any

import numpy as np
from PIL import Image

from tritonvision import tasks
from tritonvision.client.connections import Connection, Messages
from tritonvision.client.remote import parsers
from tritonvision.client.remote.facade import RunningFacade
from tritonvision.client.remote.streams import RemoteStreams
from tritonvision.engine.facts import Facts
from tritonvision.engine.mask_grid import Progress
from tritonvision.errors import NotSupported
from tritonvision.grounding.grounded import Grounded
from tritonvision.pictures import NPY_MAGIC, read_header, shown_size
from tritonvision.results import Delta, MultiLabelClassificationPrediction, Result, SAMPrediction, TrackedMasks

_AT_ONCE = 4  # concurrent pictures
_TEXTS = 8  # pictures that /clip/embed_image takes at once, and texts that are sent at once
_LARGE = 24 * 2**20  # bytes; larger arrays are sent as PNG, which is slower to encode and smaller
WRITING_SECONDS = 600.0  # a long answer on a CPU
_NO_TOKENS = np.empty(0, dtype=np.int64)  # the OpenAI route does not return them


class FacadeConnection(Connection):
    """A facade, over the routes of its dialects. Call :meth:`open` first.

    Args:
        say: told in one sentence what a person waits for.
        organization: whose requests they are, which the server is told; empty tells nothing.
    """

    def __init__(self, url: str, api_key: str | None, say: Callable[[str], None], organization: str = ""):
        self._facade = RunningFacade(url, api_key, say, organization)
        self._streams = RemoteStreams(url, api_key)

    async def open(self) -> FacadeConnection:
        """Connect; the server need not answer yet."""
        await self._facade.__aenter__()
        return self

    async def close(self) -> None:
        await self._streams.close()
        await self._facade.__aexit__()

    async def step(
        self, facts: Facts, frame: bytes | None, settings: Mapping[str, Any], stream: int | None
    ) -> tuple[int, TrackedMasks]:
        encoded = None if frame is None else _encoded(frame)
        return await self._streams.step(facts.id, encoded, settings, stream)

    async def end(self, facts: Facts, stream: int) -> None:
        await self._streams.end(stream)

    async def facts(self, name: str) -> Facts:
        await self._facade.ready(name)
        told = await self._facade.get(f"/model/facts/{name}")
        known = {field.name for field in fields(Facts)}
        given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in told.items() if k in known}
        return Facts(**given)

    async def infer(self, facts: Facts, pictures: Sequence[bytes], settings: Mapping[str, Any]) -> list[Result]:
        ask = _ASK.get(facts.task)
        if ask is None:
            raise NotSupported(f"'{facts.id}' does {facts.task}, which no route answers in a form that is read here.")
        _check(facts.task, settings)
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one(picture: bytes) -> Result:
            async with gate:
                return await ask(self, facts, picture, settings)

        asked = [asyncio.ensure_future(one(picture)) for picture in pictures]
        try:
            return list(await asyncio.gather(*asked))
        finally:
            for task in asked:
                task.cancel()

    async def features(self, facts: Facts, pictures: Sequence[bytes], settings: Mapping[str, Any]) -> np.ndarray:
        _check(tasks.EMBEDDING.name, settings)
        rows = []
        for picture in pictures:
            answer = await self._facade.json("/infer/embeddings", _body(facts, picture, settings))
            rows.append(parsers.to_vectors(answer))
        return np.concatenate(rows)

    async def embed_texts(self, facts: Facts, texts: Sequence[str]) -> np.ndarray:
        parts = [list(texts[i : i + _TEXTS]) for i in range(0, len(texts), _TEXTS)]
        answers = [await self._facade.json("/clip/embed_text", {"model_id": facts.id, "text": part}) for part in parts]
        return np.concatenate([parsers.to_vectors(answer) for answer in answers])

    async def chat(
        self, facts: Facts, messages: Messages, pictures: Sequence[bytes], settings: Mapping[str, Any]
    ) -> AsyncGenerator[Delta, None]:
        _check(facts.task, settings)
        # every setting is sent: the route's defaults are OpenAI's, not the model's
        body = {
            "model": facts.id, "messages": list(_with_pictures(messages, pictures)), "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": settings["max_new_tokens"], "separate_reasoning": False,
            **{name: settings[name] for name in ("temperature", "top_p", "top_k", "repetition_penalty")},
            **{name: settings[name] for name in ("seed", "stop", "num_beams") if settings[name] is not None},
        }  # fmt: skip
        if settings["schema"] is not None:
            schema = {"name": "answer", "schema": settings["schema"], "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        if settings["top_logprobs"] is not None:
            body |= {"logprobs": True, "top_logprobs": settings["top_logprobs"]}
        if facts.grounding and len(pictures) == 1:
            body["places"] = True
        places, last = None, None
        async with aclosing(self._facade.events("/v1/chat/completions", body, WRITING_SECONDS)) as events:
            async for event in events:
                for choice in event.get("choices", ()):
                    told = (choice.get("logprobs") or {}).get("content") or ()
                    text, reason = choice["delta"].get("content") or "", choice.get("finish_reason") or ""
                    if "places" in choice["delta"]:
                        places = tuple(map(Grounded.from_dict, choice["delta"]["places"]))
                    piece = Delta(text, _NO_TOKENS, reason, logprobs=tuple(told), places=places if reason else None)
                    if reason:
                        last = piece  # the counts come after it
                    else:
                        yield piece
                if last is not None and (counts := event.get("usage")):
                    usage = counts["prompt_tokens"], counts["completion_tokens"]
                    last = replace(last, usage=usage, cached_tokens=counts["prompt_tokens_details"]["cached_tokens"])
        if last is not None:
            yield last

    async def generate_masks(
        self, facts: Facts, picture: bytes, settings: Mapping[str, Any]
    ) -> AsyncGenerator[Progress | SAMPrediction, None]:
        if not settings["auto_orient"]:
            raise _unsaid("auto_orient")
        width, height = shown_size(picture)
        grid = {name: value for name, value in settings.items() if name != "auto_orient"}
        body = {"inputs": base64.b64encode(_encoded(picture)).decode(), "parameters": grid}
        path = f"/models/{facts.id}/pipeline/mask-generation"
        async with aclosing(self._facade.events(path, body, WRITING_SECONDS)) as events:
            async for event in events:
                if "masks" in event:
                    yield parsers.to_every_mask(event, {"height": height, "width": width})
                    return
                yield Progress(event["done"], event["total"])

    # ---- one route a task ------------------------------------------------------------------------------------------

    async def _boxes(self, facts: Facts, picture: bytes, settings: Mapping[str, Any]) -> Result:
        body = _body(facts, picture, settings) | {
            name: settings[name]
            for name in ("confidence", "iou_threshold", "max_detections", "max_candidates", "class_agnostic_nms")
        }  # fmt: skip
        if settings["classes"] is not None:
            body["class_filter"] = [facts.labels[i] for i in settings["classes"] if i < len(facts.labels)] or [""]
        form = settings.get("mask_format", "")
        if form in ("rle", "polygon"):
            body["response_mask_format"] = form
        route = {
            tasks.KEYPOINT_DETECTION.name: "keypoints_detection",
            tasks.INSTANCE_SEGMENTATION.name: "instance_segmentation",
        }.get(facts.task, "object_detection")  # fmt: skip
        found = await self._facade.json(f"/infer/{'object_detection' if form == 'none' else route}", body)
        result = parsers.to_reading(facts.task, found).result
        if isinstance(result, tuple):
            _widen(result[0], len(facts.keypoint_labels))
        return result

    async def _classes(self, facts: Facts, picture: bytes, settings: Mapping[str, Any]) -> Result:
        # with threshold 0: the route's default would drop most of a thousand classes
        body = _body(facts, picture, settings) | {"confidence": 0.0}
        result = parsers.to_reading(facts.task, await self._facade.json("/infer/classification", body)).result
        if isinstance(result, MultiLabelClassificationPrediction):
            order = np.argsort(-result.confidence, kind="stable")
            result.class_ids = order[result.confidence[order] >= np.float32(settings["confidence"])]
        return result

    async def _depth(self, facts: Facts, picture: bytes, settings: Mapping[str, Any]) -> Result:
        # Hugging Face's route, because Roboflow's returns normalised values only
        body = {"inputs": base64.b64encode(_encoded(picture)).decode(), "parameters": {"return_tensor": True}}
        return parsers.to_depth(await self._facade.json(f"/models/{facts.id}", body), facts.map_meaning)

    async def _gaze(self, facts: Facts, picture: bytes, settings: Mapping[str, Any]) -> Result:
        asked = {"confidence": settings["confidence"], "do_run_face_detection": settings["detect_faces"]}
        found = await self._facade.json("/gaze/gaze_detection", _body(facts, picture, settings) | asked)
        width, height = shown_size(picture, settings["auto_orient"])
        result = parsers.to_gaze(found[0], {"height": height, "width": width})
        _widen(result[0], len(facts.keypoint_labels))
        return result

    async def _masks(self, facts: Facts, picture: bytes, settings: Mapping[str, Any]) -> Result:
        outlines = settings["mask_format"] == "polygon"
        body = _body(facts, picture, settings) | {
            "format": "json" if outlines else "binary", "multimask_output": settings["multimask"],
            "box": settings["box"], "point_coords": settings["points"], "point_labels": settings["point_labels"],
        }  # fmt: skip
        if outlines:
            width, height = shown_size(picture, settings["auto_orient"])
            found = await self._facade.json("/sam/segment_image", body)
            return parsers.to_outlines(found, {"height": height, "width": width})
        result = parsers.to_masks(await self._facade.bytes("/sam/segment_image", body))
        return result if settings["mask_format"] == "rle" else replace(result, masks=None)

    async def _vectors(self, facts: Facts, picture: bytes, settings: Mapping[str, Any]) -> Result:
        return parsers.to_vectors(await self._facade.json("/clip/embed_image", _body(facts, picture, settings)))

    async def _named(self, facts: Facts, picture: bytes, settings: Mapping[str, Any]) -> Result:
        # with texts this route takes every model of the task; the thresholds of Grounding DINO's route differ
        asked = ("confidence", "iou_threshold", "class_agnostic_nms", "max_detections")
        body = _body(facts, picture, settings) | {"text": settings["texts"]} | {name: settings[name] for name in asked}
        return parsers.to_reading("object-detection", await self._facade.json("/owlv2/infer", body)).result

    async def _page(self, facts: Facts, picture: bytes, settings: Mapping[str, Any]) -> Result:
        body = _body(facts, picture, settings) | {"generate_bounding_boxes": True}
        return parsers.to_page(await self._facade.json("/doctr/ocr", body))

    async def _line(self, facts: Facts, picture: bytes, settings: Mapping[str, Any]) -> Result:
        asked = {name: settings[name] for name in ("max_new_tokens", "num_beams")}
        return (await self._facade.json("/ocr/trocr", _body(facts, picture, settings) | asked))["result"]


_Ask = Callable[[FacadeConnection, Facts, bytes, Mapping[str, Any]], Awaitable[Result]]
_ASK: dict[str, _Ask] = {
    tasks.OBJECT_DETECTION.name: FacadeConnection._boxes,
    tasks.KEYPOINT_DETECTION.name: FacadeConnection._boxes,
    tasks.INSTANCE_SEGMENTATION.name: FacadeConnection._boxes,
    tasks.CLASSIFICATION.name: FacadeConnection._classes,
    tasks.DEPTH_ESTIMATION.name: FacadeConnection._depth,
    tasks.GAZE.name: FacadeConnection._gaze,
    tasks.PROMPTABLE.name: FacadeConnection._masks,
    tasks.EMBEDDING.name: FacadeConnection._vectors,
    tasks.OPEN_VOCABULARY.name: FacadeConnection._named,
    tasks.STRUCTURED_OCR.name: FacadeConnection._page,
    tasks.TEXT_OCR.name: FacadeConnection._line,
}
# Settings that the routes above have fields for; the others keep their defaults over HTTP.
_BOXES = "auto_orient confidence iou_threshold max_detections max_candidates classes class_agnostic_nms"
_SAID: dict[str, frozenset[str]] = {
    task.name: frozenset(names.split())
    for task, names in (
        (tasks.OBJECT_DETECTION, _BOXES), (tasks.KEYPOINT_DETECTION, _BOXES),
        (tasks.INSTANCE_SEGMENTATION, f"{_BOXES} mask_format"), (tasks.CLASSIFICATION, "auto_orient confidence"),
        (tasks.DEPTH_ESTIMATION, ""), (tasks.GAZE, "auto_orient confidence detect_faces"),
        (tasks.TRACKING, ""), (tasks.PROMPTABLE, "auto_orient points point_labels box multimask mask_format"),
        (tasks.EMBEDDING, "auto_orient"),
        (tasks.OPEN_VOCABULARY, "auto_orient texts confidence iou_threshold class_agnostic_nms max_detections"),
        (tasks.STRUCTURED_OCR, "auto_orient"), (tasks.TEXT_OCR, "auto_orient max_new_tokens num_beams"),
        (
            tasks.VLM,
            "max_new_tokens temperature top_p top_k repetition_penalty seed stop num_beams schema top_logprobs",
        ),
    )
}  # fmt: skip


def _check(task: str, settings: Mapping[str, Any]) -> None:
    """Raises NotSupported for a setting without a field in the route, instead of dropping it silently."""
    for parameter in tasks.TASKS[task].parameters:
        value = settings.get(parameter.name, parameter.default)
        if parameter.name not in _SAID[task] and value != parameter.default:
            raise _unsaid(parameter.name)


def _unsaid(name: str) -> NotSupported:
    return NotSupported(
        f"'{name}' cannot be asked for over HTTP.", hint="Ask a server of your own, or a Triton by its grpc:// address."
    )


def _body(facts: Facts, picture: bytes, settings: Mapping[str, Any]) -> dict[str, Any]:
    if len(picture) > _LARGE:
        picture = _encoded(picture)
    return {
        "model_id": facts.id, "image": parsers.as_image(picture, picture.startswith(NPY_MAGIC)),
        "disable_preproc_auto_orient": not settings["auto_orient"],
    }  # fmt: skip


def _widen(points: Any, count: int) -> None:
    """Without an instance the number of points is unknown; give the array ``count``, as in other answers."""
    if not len(points.xy) and count:
        points.xy, points.confidence = np.zeros((0, count, 2), np.float32), np.zeros((0, count), np.float32)


def _with_pictures(messages: Messages, pictures: Sequence[bytes]) -> Iterator[dict[str, Any]]:
    """``messages`` in OpenAI's form, every picture in its place as a data URL."""
    urls = (_data_url(picture) for picture in pictures)
    for message in messages:
        parts = [
            {"type": "image_url", "image_url": {"url": next(urls)} | _detail(part)} if part["type"] == "image" else part
            for part in message["content"]
        ]
        alone = len(parts) == 1 and parts[0]["type"] == "text"
        yield {"role": message["role"], "content": parts[0]["text"] if alone else parts}


def _detail(part: Mapping[str, Any]) -> dict[str, Any]:
    return {"detail": part["detail"]} if "detail" in part else {}


def _data_url(picture: bytes) -> str:
    encoded = _encoded(picture)
    kind = read_header(encoded).format.lower()
    return f"data:image/{kind};base64,{base64.b64encode(encoded).decode()}"


def _encoded(picture: bytes) -> bytes:
    """``picture``, or a PNG of ``.npy`` bytes: some routes take no arrays."""
    if not picture.startswith(NPY_MAGIC):
        return picture
    stream = io.BytesIO()
    Image.fromarray(np.load(io.BytesIO(picture), allow_pickle=False)).save(stream, "PNG", compress_level=1)
    return stream.getvalue()
