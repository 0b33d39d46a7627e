"""What a family makes of messages and pictures: the token ids, and what its vision network reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np


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
            InvalidParameter: the family cannot say this.
        """
