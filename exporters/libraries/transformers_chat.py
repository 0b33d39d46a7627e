"""What transformers' chat models share: the files of their processors, and whole answers of ``generate``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tritonvision.errors import ExportFailed
from tritonvision.exporters.contract import Tensors
from tritonvision.exporters.libraries import transformers_weights

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def processor_parts(folder: Path, pictures: type) -> tuple[Any, PreTrainedTokenizerBase]:
    """The image processor, of the class ``pictures``, and the tokenizer that lie beside weights.

    Raises:
        ExportFailed: their files are missing or broken.
    """
    from transformers import AutoTokenizer

    with reading_processor(), transformers_weights.quiet():  # it tells of every kind of model that it does not know
        images = pictures.from_pretrained(folder, local_files_only=True)  # type: ignore[attr-defined]
        return images, AutoTokenizer.from_pretrained(folder, local_files_only=True)


@contextmanager
def reading_processor() -> Iterator[None]:
    """Turn what the library raises of a processor's missing or broken files into an ExportFailed."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ExportFailed(
            "The weights folder lacks the files of the processor.",
            hint="Write them with processor.save_pretrained(folder).",
        ) from error


def answer(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, given: Mapping[str, torch.Tensor],
    parameters: Mapping[str, Any], end_ids: Sequence[int],
) -> Tensors:  # fmt: skip
    """What the library generates.

    Args:
        given: what its processor made of one prompt and its pictures.
        parameters: settings of the task; every one except ``stop`` is applied.

    Returns:
        ``token_ids`` int64 ``[n]`` with the one that ends it, ``text``, ``finish_reason``, ``usage`` int32 ``[2]``.
    """
    import torch

    hot = parameters["temperature"] > 0
    sampled = {name: parameters[name] for name in ("temperature", "top_p", "top_k")} if hot else {}
    with torch.inference_mode(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(parameters["seed"] or 0)
        whole = model.generate(
            **given, max_new_tokens=parameters["max_new_tokens"], do_sample=hot,
            repetition_penalty=parameters["repetition_penalty"], **sampled,
        )  # fmt: skip
    count = given["input_ids"].shape[1]
    ids = whole[0, count:]
    ended = int(ids[-1]) in end_ids
    return {
        "token_ids": ids.numpy(),
        "text": np.array([tokenizer.decode(ids, skip_special_tokens=True)], dtype=object),
        "finish_reason": np.array(["stop" if ended else "length"], dtype=object),
        "usage": np.array([count, len(ids)], dtype=np.int32),
    }
