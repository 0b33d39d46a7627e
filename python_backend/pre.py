"""The pre step: an encoded picture to the pixels of a network, and the geometry that maps back."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence

import cv2
import numpy as np

from tritonvision.errors import InvalidParameter
from tritonvision.pictures import decode
from tritonvision.python_backend.images import regions, resize
from tritonvision.python_backend.step import Step, read_parameters
from tritonvision.tasks import AUTO_ORIENT, REGION


class TritonPythonModel(Step):
    """``image`` BYTES ``[B,1]`` to ``pixels`` ``[B,H,W,3]`` RGB and ``geometry`` float64 ``[B,6]``; with rules that pad
    for the network to mask, ``valid_size`` int32 ``[B,2]``.

    An empty sample repeats the picture before it, so that many regions of one picture need one copy.
    """

    def setup(self, parameters: Mapping[str, str], args: Mapping[str, str]) -> None:
        """One thread: the instances are the parallelism."""
        cv2.setNumThreads(1)
        options = json.loads(parameters["resize"])
        name = options.pop("rule")
        self.rule = resize.RULES[name]
        self.with_valid_size = name in resize.WITH_VALID_SIZE
        self.options = options

    def answer(self, tensors: dict[str, np.ndarray], wanted: Collection[str]) -> dict[str, np.ndarray]:
        """Reads its own settings only; the post step checks all settings of the request."""
        images = tensors["image"].reshape(-1)
        pixels, geometries = [], []
        before: tuple[bytes, bool, np.ndarray] | None = None
        for data, settings in zip(images, read_parameters(tensors, len(images)), strict=True):
            orient = AUTO_ORIENT.check(settings.get(AUTO_ORIENT.name))
            if data or before is None:
                before = data, orient, decode(data, orient)
            elif orient != before[1]:
                before = before[0], orient, decode(before[0], orient)
            pixel, geometry = regions.apply(
                self.rule, before[2], REGION.check(settings.get(REGION.name)), self.options
            )
            pixels.append(pixel)
            geometries.append(geometry)
        answer = {"pixels": self._batch(pixels), "geometry": np.stack([g.to_array() for g in geometries])}
        if self.with_valid_size:
            answer["valid_size"] = np.array([g.valid_size for g in geometries], dtype=np.int32)
        return answer

    def _batch(self, pixels: Sequence[np.ndarray]) -> np.ndarray:
        if len(pixels) == 1:  # the usual case, not copied
            return pixels[0][None]
        if len({p.shape for p in pixels}) == 1:
            return np.stack(pixels)
        if not self.with_valid_size:
            raise InvalidParameter(
                "The pictures of one batch must have one shape for this model.", hint="Send them one by one."
            )
        height, width = (max(p.shape[axis] for p in pixels) for axis in (0, 1))
        batch = np.zeros((len(pixels), height, width, 3), dtype=pixels[0].dtype)
        for row, pixel in zip(batch, pixels, strict=True):
            row[: pixel.shape[0], : pixel.shape[1]] = pixel
        return batch
