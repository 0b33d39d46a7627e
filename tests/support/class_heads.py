"""A fault in the last layers of a detector that only its classes show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch


def exchange_often(heads: Sequence[torch.nn.Conv2d], class_ids: np.ndarray) -> None:
    """Exchange two classes of ``heads`` in place, of which one is that found most often in ``class_ids``."""
    often = np.bincount(class_ids.ravel()).argmax()
    order = list(range(heads[0].out_channels))
    order[often], order[often - 1] = order[often - 1], order[often]
    with torch.no_grad():
        for head in heads:
            head.weight.copy_(head.weight[order])
            head.bias.copy_(head.bias[order])
