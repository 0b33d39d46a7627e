"""Hugging Face's depth estimation: a grey picture, and on request the float values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tritonvision.facade.rendering import depth_maps
from tritonvision.publication import Manifest
from tritonvision.results import DepthMap
from tritonvision.tasks import Parameter

# Both are fields of our own: the values are megabytes, and 8 bits are coarse.
PARAMETERS = (
    Parameter("return_tensor", "bool", False),
    Parameter("depth_map_format", "choice", "png8", choices=("png8", "png16")),
)
_DECIMALS = 4


def depth(result: DepthMap, manifest: Manifest, given: Mapping[str, Any]) -> dict[str, Any]:
    """``{"depth", "predicted_depth"?}``: the map scaled from its lowest to its highest value.
    """
    shares = replace(result, meaning="inverse-depth").nearness()
    body: dict[str, Any] = {"depth": depth_maps.grey_png(shares, int(given["depth_map_format"].removeprefix("png")))}
    if given["return_tensor"]:
        body["predicted_depth"] = depth_maps.numbers(result.values, _DECIMALS)
    return body
