"""What a family makes of messages and pictures: the token ids, and what its vision network reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from tritonvision.errors import InvalidParameter

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Prompt:
    """One prompt, ready for the networks.

    Attributes:
        input_ids: (S,) int64.
        vision: inputs of the vision network, batch axis first, one dictionary a picture.
        image_token: the id whose rows of ``inputs_embeds`` the rows of ``image_embeds`` replace, in order.
    """

    input_ids: np.ndarray
    vision: Sequence[Mapping[str, np.ndarray]] = field(default_factory=tuple)
    image_token: int = -1


class Reader(Protocol):
    """A family's prompt: ``Reader(options, tokenizer)`` of ``python_backend/vlm/<family>.py``.

    Attributes:
        end_ids: tokens that end an answer.
        context: most tokens of prompt and answer together.
    """

    end_ids: tuple[int, ...]
    context: int

    def read(self, messages: Sequence[Mapping[str, Any]], pictures: Sequence[np.ndarray]) -> Prompt:
        """The prompt of a conversation.

        Args:
            messages: ``{"role", "content"}``, the content a list of ``{"type": "text", "text"}`` and
                ``{"type": "image"}``, as many of these as there are ``pictures``.
            pictures: RGB uint8 ``[h,w,3]``.

        Raises:
            InvalidParameter: :func:`check` refuses it, the family cannot say it, or it is not shorter than the context.
        """


def check(messages: Sequence[Mapping[str, Any]], pictures: int) -> None:
    """What every family's reader demands of a conversation, before it looks at any picture.

    Raises:
        InvalidParameter: a role or a message that says nothing, nobody asks anything, or there are not as many places
            for pictures as ``pictures``.
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
    places = sum(part["type"] == "image" for message in messages for part in message["content"])
    if places != pictures:
        raise InvalidParameter(f"The messages have places for {places} pictures, {pictures} came.")
