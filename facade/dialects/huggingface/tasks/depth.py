"""Hugging Face's depth estimation: a grey picture, and the numbers themselves when they are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tritonvision.facade.rendering import depth_maps
from tritonvision.publication import Manifest
from tritonvision.results import DepthMap
from tritonvision.tasks import Parameter

# Both are fields of our own: the numbers are megabytes, and eight bits are few.
PARAMETERS = (
    Parameter("return_tensor", "bool", False),
    Parameter("depth_map_format", "choice", "png8", choices=("png8", "png16")),
)
_DECIMALS = 4


def depth(result: DepthMap, manifest: Manifest, given: Mapping[str, Any]) -> dict[str, Any]:
    """``{"depth", "predicted_depth"?}``: the map from its lowest to its highest value, whatever that means."""
    shares = replace(result, meaning="inverse-depth").nearness()
    body: dict[str, Any] = {"depth": depth_maps.grey_png(shares, int(given["depth_map_format"].removeprefix("png")))}
    if given["return_tensor"]:
        body["predicted_depth"] = depth_maps.numbers(result.values, _DECIMALS)
    return body
