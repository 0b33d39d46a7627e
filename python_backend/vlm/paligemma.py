"""PaliGemma's prompt: the rows of the pictures, ``<bos>``, the prompt's text and a newline, all of it a prefix.

A prompt is a task in words: ``caption en``, ``ocr``, ``answer en where is the cat?``, ``detect cat ; dog``, ``segment
cat``, or a question. The model was trained on one of them about pictures, not on conversations. A picture is stretched
to the network's square: ``PaliGemmaProcessor`` with its Pillow image processor (transformers 5.23) to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tokenizers
from PIL import Image

from tritonvision.errors import InvalidParameter
from tritonvision.python_backend.generation.prompt import HIGH, Prompt, Size, check

BEGIN, PICTURE = "<bos>", "<image>"
LOCATIONS = tuple(f"<loc{number:04}>" for number in range(1024))
CODES = tuple(f"<seg{number:03}>" for number in range(128))
CODES_OF_MASK = 16
_FIRST_POSITION = 1


class Reader:
    """See :class:`tritonvision.python_backend.generation.prompt.Reader`.

    Args:
        options: ``side`` (pixels), ``tokens_per_picture``, ``image_token``, ``end_ids``, ``context``.
        tokenizer: with PaliGemma's tokens. Special tokens spelt in a prompt are tokenized as text; those of places,
            ``<loc0000>`` and ``<seg000>``, are words of its language, which a prompt may hold.
    """

    def __init__(self, options: Mapping[str, Any], tokenizer: tokenizers.Tokenizer):
        self.end_ids = tuple(options["end_ids"])
        self.context = options["context"]
        self._side, self._tokens = options["side"], options["tokens_per_picture"]
        self._image_token, self._begin = options["image_token"], tokenizer.token_to_id(BEGIN)
        self._texts = tokenizers.Tokenizer.from_str(tokenizer.to_str())
        self._texts.encode_special_tokens = True
        self._codes = {tokenizer.token_to_id(token): code for code, token in enumerate(CODES)}

    def read(self, messages: Sequence[Mapping[str, Any]], sizes: Sequence[Size]) -> Prompt:
        """The prompt about pictures of these ``sizes`` (height, width), whose places in the message do not matter.

        Raises:
            InvalidParameter: it is a conversation, has no picture, parts and pictures do not match, or it is longer
                than the context.
        """
        check(messages, len(sizes))
        if len(messages) > 1:
            raise InvalidParameter(
                "This model answers one prompt, not a conversation.",
                hint="Send one message of the user's: pictures, and a prompt like 'caption en' or 'detect cat'.",
            )
        if not sizes:
            raise InvalidParameter("This model answers about pictures only.", hint="Send a picture with the prompt.")
        text = "".join(part["text"] for part in messages[0]["content"] if part["type"] == "text")
        words = self._texts.encode(f"{text}\n", add_special_tokens=False).ids
        input_ids = [self._image_token] * (self._tokens * len(sizes)) + [self._begin, *words]
        if len(input_ids) >= self.context:
            raise InvalidParameter(
                f"The prompt is {len(input_ids)} tokens long, the model reads less than {self.context}.",
                hint="Shorten the prompt or send fewer pictures.",
            )
        positions = np.arange(len(input_ids), dtype=np.int64) + _FIRST_POSITION
        return Prompt(
            np.array(input_ids, dtype=np.int64), self._image_token, positions, bidirectional=len(input_ids)
        )

    def vision_inputs(self, picture: np.ndarray, detail: str = HIGH) -> Mapping[str, np.ndarray]:
        """``pixels`` uint8 ``[1, side, side, 3]`` of one picture, RGB uint8 ``[h,w,3]``; there is one resolution."""
        square = Image.fromarray(picture).resize((self._side, self._side), Image.Resampling.BICUBIC)
        return {"pixels": np.asarray(square)[None]}

    def codes(self, token_ids: Sequence[int]) -> np.ndarray:
        """The codes of the masks that an answer spells, int64 ``[n,16]``: each run of sixteen ``<seg>`` tokens is one.

        Of a run of another length, which is no mask, nothing is taken.
        """
        found: list[list[int]] = []
        run: list[int] = []
        for token in (*token_ids, -1):
            if token in self._codes:
                run.append(self._codes[token])
                continue
            if len(run) == CODES_OF_MASK:
                found.append(run)
            run = []
        return np.array(found, dtype=np.int64).reshape(-1, CODES_OF_MASK)
