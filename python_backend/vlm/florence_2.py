"""Florence-2's prompt: one picture, stretched to a square, and one instruction, often that of a task's token.

The model has no memory: of a conversation it reads the last question, about the picture that came with it or, where
none did, about the last one before it. What ``Florence2Processor`` (transformers 5.23, with its Pillow image processor)
makes of them, to the bit; but a region's steps are tokens only behind a task that takes a region.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tokenizers
from PIL import Image

from tritonvision.errors import InvalidParameter
from tritonvision.grounding import florence
from tritonvision.python_backend.generation.prompt import Prompt, Size, check

START, PAD, END, PICTURE = "<s>", "<pad>", "</s>", "<image>"
_LETTERS = 64  # a bound on the average length of a token in characters


class Reader:
    """See :class:`tritonvision.python_backend.generation.search_engine.Reader`.

    Args:
        options: ``side`` (pixels of the square), ``rows`` (tokens that a picture takes), ``context`` (most tokens of
            picture and prompt together), ``positions`` (most tokens of an answer), ``image_token``.
        tokenizer: with Florence-2's special tokens. Those that are spelt in callers' texts are tokenized as text.
    """

    def __init__(self, options: Mapping[str, Any], tokenizer: tokenizers.Tokenizer):
        self.context, self.positions = options["context"], options["positions"]
        self._side, self._rows, self._image_token = options["side"], options["rows"], options["image_token"]
        self._tokenizer = tokenizer
        self._texts = tokenizers.Tokenizer.from_str(tokenizer.to_str())
        self._texts.encode_special_tokens = True
        self._start, self._pad, self._end = map(self._id, (START, PAD, END))

    def read(self, messages: Sequence[Mapping[str, Any]], sizes: Sequence[Size]) -> Prompt:
        """The prompt: places for the picture, which is the last of the conversation, and the instruction.

        Raises:
            InvalidParameter: there is a system message, no picture or more than one with the question, a task's token
                is where it does not belong, or the prompt is longer than the context.
        """
        check(messages, len(sizes))
        instruction = self._instruction(messages, len(sizes))
        most = self.context - self._rows
        if len(instruction) <= _LETTERS * most:
            ids = [self._start, *self._ids(florence.asked(instruction)), self._end]
        if len(instruction) > _LETTERS * most or len(ids) > most:
            raise InvalidParameter(
                f"The prompt is too long: beside a picture the model reads {most} tokens.", hint="Shorten the prompt."
            )
        return Prompt(np.array([self._image_token] * self._rows + ids, dtype=np.int64), self._image_token)

    def vision_inputs(self, picture: np.ndarray, detail: str = "") -> Mapping[str, np.ndarray]:
        """``pixels`` uint8 ``[1, side, side, 3]`` of RGB uint8 ``[h,w,3]``. There is one resolution: ``detail`` changes
        nothing.
        """
        return {"pixels": square(picture, self._side)[None]}

    def written(self, ids: Sequence[int]) -> str:
        """The text of an answer's tokens: with its steps and marks, which say where things are, without its ends."""
        silent = (self._start, self._pad, self._end)
        return self._tokenizer.decode([id for id in ids if id not in silent], skip_special_tokens=False)

    def _instruction(self, messages: Sequence[Mapping[str, Any]], pictures: int) -> str:
        last = messages[-1]
        if last["role"] != "user" or any(message["role"] == "system" for message in messages):
            raise InvalidParameter(
                "This model reads one instruction, the last message of the user, and no system message.",
                hint="Send one message with a picture and a prompt, such as <CAPTION>.",
            )
        count = sum(part["type"] == "image" for part in last["content"])
        if not pictures or count > 1:
            raise InvalidParameter(
                f"This model reads one picture a question, not {count}.", hint="Ask about one picture after another."
            )
        text = "".join(part["text"] for part in last["content"] if part["type"] == "text")
        if not text.strip():
            raise InvalidParameter("The prompt is empty.", hint=f"Send a task: {', '.join(florence.TASKS)}.")
        return text

    def _ids(self, asked: florence.Asked) -> list[int]:
        steps = [self._id(f"<loc_{step}>") for step in asked.region]
        return [*self._encode(asked.before), *steps, *self._encode(asked.after)]

    def _id(self, token: str) -> int:
        found = self._tokenizer.token_to_id(token)
        assert found is not None, "every vocabulary of the family has it"
        return found

    def _encode(self, text: str) -> list[int]:
        return self._texts.encode(text, add_special_tokens=False).ids if text else []


def square(picture: np.ndarray, side: int) -> np.ndarray:
    """RGB uint8 ``[h,w,3]`` to uint8 ``[side, side, 3]``, each axis stretched by itself."""
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC))
