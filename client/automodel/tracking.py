"""Streams of AutoModel: objects prompted on one frame and followed through the next ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tritonvision import tasks
from tritonvision.errors import InvalidParameter
from tritonvision.results import TrackedMasks

# step(frame or None, settings, stream or None) -> its number and the answer
Step = Callable[[Any, Mapping[str, Any], "int | None"], tuple[int, TrackedMasks]]
Answer = tuple[np.ndarray, np.ndarray, dict[str, int]]


class Tracker:
    """The streams of one model; the last one is the model's own.

    Args:
        step: asks the model.
        end: forgets a stream.
    """

    def __init__(self, step: Step, end: Callable[[int], None]):
        self._step, self._end = step, end
        self._own: int | None = None

    def prompt(
        self, image: Any, bboxes: Any = None, state_dict: Mapping[str, int] | None = None, **settings: Any
    ) -> Answer:
        """Objects on a frame: a new stream's first, or with ``state_dict`` that stream's next.

        Args:
            image: the frame; None for prompts about one of the last frames of that stream, ``frame_idx``.
            bboxes: (n, 4) left, top, right, bottom; object ids count them where ``object_ids`` does not name them.
            settings: ``object_ids``, ``points``, ``point_labels``, ``point_objects``, ``forget``, ``frame_idx``, others
                of the task; ``clear_old_prompts`` and ``normalize_coords`` are accepted, and are always so.

        Returns:
            Masks bool (n, h, w), object ids int64 (n,), and what to pass as ``state_dict`` next.

        Raises:
            InvalidParameter: nothing is prompted, or as the server refuses it.
        """
        given = _settings(settings)
        if bboxes is not None:
            given["boxes"] = _numbers("bboxes", bboxes, 4)
        if not given.keys() & {"boxes", "points", "forget"}:
            raise InvalidParameter("There is no prompt.", hint="Give boxes or points on the objects to follow.")
        if state_dict is None:
            if self._own is not None:
                before, self._own = self._own, None  # also where its server is gone
                self._end(before)
            stream = None
            if image is None:
                raise InvalidParameter("A stream begins with a frame.", hint="Give the picture with its prompts.")
        else:
            stream = _stream(state_dict)
        return self._asked(image, given, stream)

    def track(self, image: Any, state_dict: Mapping[str, int] | None = None, **settings: Any) -> Answer:
        """The objects on the next frame of a stream, by default of the last one that was prompted; as :meth:`prompt`.

        Raises:
            InvalidParameter: nothing was prompted yet, or the stream is not known any more.
        """
        stream = self._own if state_dict is None else _stream(state_dict)
        if stream is None:
            raise InvalidParameter("There is nothing to follow yet.", hint="Call prompt with the first frame.")
        return self._asked(image, _settings(settings), stream)

    def _asked(self, image: Any, given: dict[str, Any], stream: int | None) -> Answer:
        resolved = tasks.resolve(tasks.TRACKING.parameters, {**given, "mask_format": "rle"})
        number, found = self._step(image, resolved, stream)
        self._own = number
        assert found.masks is not None, "asked for"
        return found.masks.to_dense().astype(bool), found.object_ids, {"stream": number, "frame": found.frame}


def _settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the task out of keywords."""
    known = dict(given)
    for name in ("clear_old_prompts", "normalize_coords"):
        if known.pop(name, True) is not True:
            raise InvalidParameter(f"'{name}' is always true here.")
    names = {"object_ids": "box_objects", "frame_idx": "frame"}
    found = {names.get(name, name): value for name, value in known.items() if value is not None}
    if "points" in found:
        found["points"] = _numbers("points", found["points"], 2)
    for name in ("box_objects", "point_objects", "forget"):
        if name in found:
            found[name] = [int(value) for value in found[name]]
    if "point_labels" in found:
        found["point_labels"] = [float(value) for value in found["point_labels"]]
    return found


def _numbers(name: str, given: Any, width: int) -> list[list[float]]:
    try:
        return np.asarray(given, dtype=np.float64).reshape(-1, width).tolist()
    except (ValueError, TypeError) as error:
        raise InvalidParameter(f"'{name}' must be rows of {width} numbers.") from error


def _stream(state: Mapping[str, Any] | Sequence[Any]) -> int:
    number = state.get("stream") if isinstance(state, Mapping) else None
    if not isinstance(number, int):
        raise InvalidParameter("'state_dict' must be what prompt or track returned.")
    return number
