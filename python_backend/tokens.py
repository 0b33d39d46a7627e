"""The pre step of texts: UTF-8 bytes to token ids."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from tritonvision import tasks
from tritonvision.errors import InvalidParameter
from tritonvision.python_backend.step import Step, read_parameters
from tritonvision.python_backend.vocabulary.clip_tokenizer import Tokenizer


class TritonPythonModel(Step):
    """``text`` BYTES ``[B,1]`` to ``input_ids`` int64 ``[B,context]``."""

    def setup(self, parameters: Mapping[str, str], args: Mapping[str, str]) -> None:
        """The vocabulary lies beside ``model.py``; its name and the context stand in the config."""
        folder = Path(args["model_repository"]) / args["model_version"]
        vocabulary = (folder / parameters["tokenizer"]).read_text(encoding="utf-8")
        self.tokenizer = Tokenizer(vocabulary, int(parameters["context"]))

    def answer(self, tensors: dict[str, np.ndarray], wanted: Collection[str]) -> dict[str, np.ndarray]:
        """Settings of pictures are accepted and ignored; the only setting of a text is ``truncate``."""
        texts = tensors["text"].reshape(-1)
        rows = []
        for text, settings in zip(texts, read_parameters(tensors, len(texts)), strict=True):
            given = tasks.resolve((*tasks.EMBEDDING.parameters, tasks.TRUNCATE), settings)
            rows.append(self.tokenizer(_decode(text), given[tasks.TRUNCATE.name]))
        return {"input_ids": np.stack(rows)}


def _decode(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise InvalidParameter("The text is not UTF-8.") from error
