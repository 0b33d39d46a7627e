"""The text of one line: the picture is encoded once, the decoder generates tokens by greedy or beam search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tokenizers
from PIL import Image

from tritonvision import tasks
from tritonvision.errors import InvalidParameter
from tritonvision.pictures import decode
from tritonvision.python_backend.generation.beams import SEARCH, Decoder, Search, read_search, search
from tritonvision.python_backend.runtime.networks import Call

TASK = tasks.TEXT_OCR
TOKENIZER = "tokenizer.json"  # the vocabulary, a file beside the model, as the settings of the search are


class Composition:
    """Text of one picture.

    Args:
        call: runs the networks ``encoder`` and ``decoder``.
        options: ``side``, pixels of the encoder's square input; ``layers`` of the decoder; ``positions``, the most
            tokens it can read; ``assets``, the files.
    """

    def __init__(self, call: Call, options: Mapping[str, Any]):
        self._call = call
        self._side, self._positions = int(options["side"]), int(options["positions"])
        self._cross = [f"cross.{n}.{part}" for n in range(options["layers"]) for part in ("key", "value")]
        self._tokenizer = tokenizers.Tokenizer.from_str(options["assets"][TOKENIZER].decode())
        self._checkpoint = read_search(options["assets"][SEARCH])

    def answer(
        self, sample: Mapping[str, Any], parameters: Mapping[str, Any], wanted: set[str] | None = None
    ) -> dict[str, np.ndarray]:
        """The text of one picture.

        Args:
            sample: ``image``, an encoded picture or ``.npy`` bytes.
            parameters: settings of the task, resolved; None is what the checkpoint's authors set.

        Returns:
            ``text`` ``[1]`` (UTF-8), ``token_ids`` int64 ``[n]`` as they were written, the end included, and
            ``image_size`` int32 ``[2]`` (height, width).

        Raises:
            InvalidPicture, InvalidParameter: more tokens are asked for than the decoder has positions.
        """
        settings = self._search_settings(parameters)
        picture = decode(sample["image"], parameters["auto_orient"])
        cross = self._call("encoder", {"pixels": frame(picture, self._side)[None]}, self._cross)
        ids = search(Decoder(self._call, cross), settings)
        text = self._tokenizer.decode(ids.tolist(), skip_special_tokens=True)
        return {
            "text": np.array([text.encode()], dtype=object),
            "token_ids": ids,
            "image_size": np.array(picture.shape[:2], dtype=np.int32),
        }

    def _search_settings(self, parameters: Mapping[str, Any]) -> Search:
        asked = {"most": parameters["max_new_tokens"], "beams": parameters["num_beams"]}
        given = {name: value for name, value in asked.items() if value is not None}
        settings = Search(**{**self._checkpoint, **given})
        if settings.most > self._positions:
            raise InvalidParameter(
                f"The model writes at most {self._positions} tokens, not {settings.most}.",
                hint="Lower 'max_new_tokens'.",
            )
        return settings


def frame(picture: np.ndarray, side: int) -> np.ndarray:
    """The picture as the encoder sees it, uint8 ``[side, side, 3]``: each axis stretched by itself, as
    ``ViTImageProcessorPil`` does it with Pillow, bilinear and antialiased.
    """
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR))
