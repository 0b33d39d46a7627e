"""The image processor in a folder of weights of ``transformers``: supported settings are served, others refused."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritonvision.errors import ExportFailed
from tritonvision.exporters.contract import Weights
from tritonvision.exporters.libraries import transformers_weights

if TYPE_CHECKING:
    from transformers.image_processing_base import ImageProcessingMixin

_FILES = ("preprocessor_config.json", "processor_config.json")
# Keys that affect the pixels; all others of a processor concern training or the caller.
_KEYS = (
    "do_resize", "size", "resample", "do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std",
    "do_pad", "pad_size", "do_center_crop", "crop_size", "keep_aspect_ratio", "ensure_multiple_of", "size_divisor",
)  # fmt: skip
_SHOWN = 100  # characters of a value in an error


def beside(
    weights: Weights, ours: ImageProcessingMixin, known: Collection[str] = ()
) -> ImageProcessingMixin:  # fmt: skip
    """The image processor of a user's folder; ``ours`` where there is no folder or no processor in it.

    Args:
        ours: the image processor of the released weights.
        known: keys of which the family supports every value.

    Raises:
        ExportFailed: the folder's processor differs in another key, or cannot be read.
    """
    folder = weights.path
    if folder is None or not any((folder / name).is_file() for name in _FILES):
        return ours
    theirs = _load(folder, ours)
    said, usual = (_plain(processor.to_dict()) for processor in (theirs, ours))
    for key in _KEYS:
        if key not in known and (said.get(key) or None) != (usual.get(key) or None):
            raise ExportFailed(
                f"The weights' own image processor has {key} {str(said.get(key))[:_SHOWN]}, "
                f"and here it is {str(usual.get(key))[:_SHOWN]}.",
                hint=f"Train with the released processor, or remove {' or '.join(_FILES)} if it is not what was used.",
            )
    return theirs


def _load(folder: Path, ours: ImageProcessingMixin) -> ImageProcessingMixin:
    try:
        with transformers_weights.quiet():
            return type(ours).from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ExportFailed(
            "The image processor beside the weights cannot be read.",
            hint="Write it with processor.save_pretrained(folder).",
        ) from error


def _plain(value: Any) -> Any:
    """For comparing: dictionaries without None, lists as tuples, enumerations as numbers, floats to nine digits."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return tuple(_plain(inner) for inner in value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return int(value) if isinstance(value, int) else round(value, 9)


def sides(processor: ImageProcessingMixin, names: tuple[str, str]) -> tuple[int, int]:
    """Two lengths of ``size``, such as ``height`` and ``width``. Raises ExportFailed where it has others."""
    size = {name: length for name, length in dict(processor.size).items() if length is not None}
    found = [size[name] for name in names if type(size.get(name)) is int and 0 < size[name] <= 4096]
    if set(size) != set(names) or len(found) != len(names):
        raise ExportFailed(
            f"The weights' own image processor has size {str(size)[:_SHOWN]}, which cannot be done here.",
            hint=f"It names {names[0]} and {names[1]}, in pixels.",
        )
    return found[0], found[1]
