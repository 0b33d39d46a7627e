"""The pre step: an encoded picture to the pixels of a network, and the geometry that leads back."""

from __future__ import annotations

import json
from collections.abc import Mapping

import cv2
import numpy as np

from tritonvision.python_backend import resize
from tritonvision.python_backend.pictures import decode
from tritonvision.python_backend.step import Step, read_parameters
from tritonvision.tasks import AUTO_ORIENT


class TritonPythonModel(Step):
    """``image`` BYTES ``[B,1]`` to ``pixels`` uint8 ``[B,H,W,3]`` RGB and ``geometry`` float64 ``[B,6]``."""

    def setup(self, parameters: Mapping[str, str], args: Mapping[str, str]) -> None:
        """One thread: the instances are the parallelism."""
        cv2.setNumThreads(1)
        options = json.loads(parameters["resize"])
        self.rule = resize.RULES[options.pop("rule")]
        self.options = options

    def answer(self, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The settings of the whole request are the post step's to check; this step looks for its own."""
        images = tensors["image"].reshape(-1)
        pixels, geometries = [], []
        for data, settings in zip(images, read_parameters(tensors, len(images)), strict=True):
            picture = decode(data, AUTO_ORIENT.check(settings.get(AUTO_ORIENT.name)))
            pixel, geometry = self.rule(picture, **self.options)
            pixels.append(pixel)
            geometries.append(geometry.to_array())
        # one picture, the usual case, is not copied
        return {"pixels": pixels[0][None] if len(pixels) == 1 else np.stack(pixels), "geometry": np.stack(geometries)}
