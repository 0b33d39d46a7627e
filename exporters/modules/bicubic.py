"""Bicubic resizing of one axis as a matrix, for sides that a graph knows only when it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_CUBIC = -0.75  # the coefficient of torch's bicubic kernel


def weights(count: int, side: int, factor: tuple[int, int], dtype: torch.dtype) -> torch.Tensor:
    """``[count, side]``: the weights of torch's bicubic ``interpolate`` (no aligned corners) from ``side`` values to
    ``count``.

    Output i lies at (i + 0.5) / factor - 0.5 and is a weighted sum of its four neighbours; borders are repeated. The
    place is a whole number and a rest, by integers: an engine that computes in bf16 would else know it to a quarter of
    a step.

    Args:
        factor: numerator and denominator of what the axis grows by, mostly ``(count, side)``.
    """
    import torch

    grown, shrunk = factor
    parts = 2 * grown  # of a step; one step is added, so that nothing is negative
    places = (2 * torch.arange(count) + 1) * shrunk + grown
    whole = places // parts
    rest = (places - whole * parts).to(dtype) / parts
    steps = torch.arange(-1, 3)
    far = (steps - rest[:, None]).abs()
    inner = ((_CUBIC + 2) * far - (_CUBIC + 3)) * far * far + 1
    outer = ((far - 5) * far + 8) * (far * _CUBIC) - 4 * _CUBIC
    kernel = torch.where(far <= 1, inner, outer)
    taps = (whole[:, None] - 1 + steps).clamp(0, side - 1)
    return (kernel[:, :, None] * torch.nn.functional.one_hot(taps, side)).sum(1)
