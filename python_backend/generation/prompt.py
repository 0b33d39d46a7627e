"""The prompt of a family: token ids from messages, and inputs of its vision network from pictures.

The prompt depends on the sizes of the pictures only, which their headers hold. So a request is checked before any
picture is decoded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from tritonvision.errors import InvalidParameter
from tritonvision.pictures import size_of
from tritonvision.tasks import HIGH, check_detail

ROLES = ("system", "user", "assistant")

Size = tuple[int, int]


@dataclass(frozen=True)
class Picture:
    """A picture of a conversation, decoded just before it is encoded.

    Attributes:
        size: gives (height, width) of the oriented picture from its header. Raises InvalidPicture, PictureTooLarge.
        decode: gives RGB uint8 ``[height,width,3]``. Raises InvalidPicture.
        digest: gives what decides its pixels, to find what is kept of it; None keeps nothing.
    """

    size: Callable[[], Size]
    decode: Callable[[], np.ndarray]
    digest: Callable[[], bytes] | None = None

    @classmethod
    def of(cls, pixels: np.ndarray) -> Picture:
        """A picture that is decoded already: RGB uint8 ``[height,width,3]``."""
        return cls(lambda: size_of(pixels), lambda: pixels, lambda: _digest(pixels))


@dataclass(frozen=True)
class Prompt:
    """One prompt.

    Attributes:
        input_ids: (S,) int64.
        image_token: the id of the tokens whose embeddings are replaced by the vision network's rows, in order.
        position_ids: int64 (S,), or (A,S) where a position has A axes (time, height, width); None counts from 0. The
            answer continues after the largest of them, on all axes.
        injections: an input of the decoder -> the output of the vision network that is written into it at the image
            tokens. In ``inputs_embeds`` the rows replace those of the token; other inputs are zero elsewhere.
        bidirectional: how many of the first tokens attend to each other in both directions (prefix attention).
        speaker: chooses the tokens of the answer and writes its text, where that is not what the tokenizer and the
            settings of the request say; of one answer.
        details: in which each picture is read; None: as its part of the messages says.
    """

    input_ids: np.ndarray
    image_token: int = -1
    position_ids: np.ndarray | None = None
    injections: Mapping[str, str] = field(default_factory=lambda: {"inputs_embeds": "image_embeds"})
    bidirectional: int = 0
    speaker: Speaker | None = None
    details: tuple[str, ...] | None = None


class Speaker(Protocol):
    """What a :class:`~.sampling.Sampler` and a :class:`~.text_stream.TextStream` are to an answer in words."""

    stopped: bool

    def __call__(self, logits: np.ndarray) -> int:
        """The next token of the decoder's logits float32 (V,)."""

    def push(self, token: int) -> str:
        """The text that ``token`` completes."""

    def flush(self) -> str:
        """The rest of the text, at the end of the answer."""


class Reader(Protocol):
    """A family's prompt: ``Reader(options, tokenizer)`` of ``python_backend/vlm/<family>.py``.

    Attributes:
        end_ids: tokens that end an answer.
        context: most tokens of prompt and answer together.
        words: how many of the decoder's logits are of words; those behind them are for a :class:`Speaker`. Only where
            there are such.
    """

    end_ids: tuple[int, ...]
    context: int

    def read(self, messages: Sequence[Mapping[str, Any]], sizes: Sequence[Size]) -> Prompt:
        """The prompt of a conversation.

        Args:
            messages: ``{"role", "content"}``, the content a list of ``{"type": "text", "text"}`` and
                ``{"type": "image"}``, as many of these as there are ``sizes``; :func:`details` reads theirs.
            sizes: (height, width) of each picture, in pixels.

        Raises:
            InvalidParameter: :func:`check` refuses it, the family has no template for it, or it is too long.
        """

    def vision_inputs(self, picture: np.ndarray, detail: str = HIGH) -> Mapping[str, np.ndarray]:
        """Inputs of the vision network for one picture, RGB uint8 ``[h,w,3]``, batch axis first.

        Args:
            detail: one of :data:`tritonvision.tasks.DETAILS`, of the prompt or else of the picture's part. A family
                with one resolution reads every picture alike.
        """

    def codes(self, token_ids: Sequence[int]) -> np.ndarray:
        """Inputs of the network ``masks``, where there is one: int64 ``[n,16]`` of each mask that an answer spells."""


def _digest(pixels: np.ndarray) -> bytes:
    return hashlib.sha256(f"{pixels.shape} ".encode() + pixels.tobytes()).digest()


def details(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """The ``detail`` of each picture of a conversation, in order. Raises InvalidParameter for an unknown one."""
    parts = [part for message in messages for part in message["content"]]
    return [check_detail(part.get("detail")) for part in parts if part["type"] == "image"]


def check(messages: Sequence[Mapping[str, Any]], pictures: int) -> None:
    """Check what every family requires of a conversation.

    Raises:
        InvalidParameter: an unknown role, an empty message, no question, not ``pictures`` image parts, or one of them
            with an unknown ``detail``.
    """
    for message in messages:
        if message["role"] not in ROLES:
            raise InvalidParameter(f"'{str(message['role'])[:40]}' is no role; {', '.join(ROLES)} are.")
        if not message["content"]:
            raise InvalidParameter("A message is empty.", hint="Give each message a text or a picture.")
    asked = [part for message in messages if message["role"] == "user" for part in message["content"]]
    if not asked:
        raise InvalidParameter("No message is the user's.", hint="Send a message with the role 'user'.")
    if not any(part["type"] == "image" or part["text"].strip() for part in asked):
        raise InvalidParameter("The prompt is empty.", hint="Ask something, or send a picture.")
    places = len(details(messages))
    if places != pictures:
        raise InvalidParameter(f"The messages have places for {places} pictures, {pictures} came.")
