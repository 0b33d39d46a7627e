"""Last layers of random networks fitted to something, so that their answers can be compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def fit(module: torch.nn.Module, loss: Callable[[], torch.Tensor], steps: int, rate: float) -> None:
    """Adam with a one-cycle rate that rises to ``rate``; ``module`` is trained in place."""
    import torch

    optimizer = torch.optim.Adam(module.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    with torch.enable_grad():
        for _ in range(steps):
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()
            schedule.step()
    optimizer.zero_grad()
