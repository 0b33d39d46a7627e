"""The places that the answer of a conversation about one picture names, in whatever its model writes them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tritonvision import grounding
from tritonvision.grounding import florence, paligemma
from tritonvision.grounding.grounded import Grounded
from tritonvision.grounding.reply_stream import answered
from tritonvision.grounding.smart_resize import read_size
from tritonvision.results import Delta
from tritonvision.tasks import check_detail

Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Convention:
    """How a published model writes places.

    Attributes:
        name, pixels: as its manifest has them, ``grounding`` and ``grounding_pixels``.
    """

    name: str
    pixels: tuple[int, int, int] | None = None


def located(
    convention: Convention, messages: Messages, size: tuple[int, int], said: str, masks: np.ndarray | None = None
) -> list[Grounded]:  # fmt: skip
    """The places that ``said`` names, in its order. Never fails on a text.

    Args:
        messages: what it answers, about one picture: the task of the last decides how Florence-2's places are read, the
            picture's ``detail`` how large the pixels are that Qwen2.5-VL counts.
        size: (width, height) of the picture as it is shown, pixels.
        said: the answer without what the model thought.
        masks: that came with it, see :class:`tritonvision.results.Delta`.
    """
    width, height = size
    task = asked_task(convention, messages)
    if task is not None:
        return florence.read(said, width, height, task)
    if masks is not None:
        return paligemma.outlined(said, [*masks])
    if convention.pixels is not None:
        height, width = read_size((height, width), convention.pixels, _detail(messages))
    return grounding.parse(convention.name, said, width, height)


def asked_task(convention: Convention, messages: Messages) -> florence.Task | None:
    """The task of Florence-2 that a conversation ends with; None of other models, and of prompts that are no task."""
    if convention.name != florence.NAME:
        return None
    return florence.asked("".join(part["text"] for part in messages[-1]["content"] if part["type"] == "text")).task


async def with_places(
    pieces: AsyncGenerator[Delta, None], convention: Convention, messages: Messages, size: Callable[[], tuple[int, int]]
) -> AsyncGenerator[Delta, None]:  # fmt: skip
    """``pieces`` of an answer about one picture, the last with the ``places`` that all of it names.

    Args:
        size: gives (width, height) of the picture, once the first piece is there.
    """
    said = ""
    async with aclosing(pieces):
        async for piece in pieces:
            said += piece.text
            if piece.finish_reason:
                found = located(convention, messages, size(), answered(said), piece.masks)
                piece = replace(piece, places=tuple(found))
            yield piece


def _detail(messages: Messages) -> str:
    """Of the picture."""
    (part,) = (part for message in messages for part in message["content"] if part["type"] == "image")
    return check_detail(part.get("detail"))
