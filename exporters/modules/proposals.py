"""Proposals of two-stage detectors: which of them the decoder takes, in which order, hangs on rounding.

Such a network scores hundreds of places, and each query of its decoder takes the place of its rank. Two places whose
scores differ by less than float32 can tell trade their queries, in the next runtime or with the next batch size, and
all answers move a little: both are right. So a graph is measured in two parts. The scores are compared themselves;
where they agree, the reference ranks by those of the graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tritonvision.errors import ExportFailed

if TYPE_CHECKING:
    import torch

_AGREE = 1e-3  # of the scores' largest magnitude: how far those of the graph may be from the reference's


class GraphRanking:
    """The scores by which an exported graph ranks its proposals: what its first TopK reads."""

    def __init__(self, graph: Path):
        import onnx
        import onnxruntime

        model = onnx.load(graph)
        scores = next(node.input[0] for node in model.graph.node if node.op_type == "TopK")
        model.graph.output.append(onnx.helper.make_tensor_value_info(scores, onnx.TensorProto.FLOAT, None))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._scores = scores

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Scores float32 ``[B, proposals]``."""
        return self._session.run([self._scores], dict(inputs))[0]


@contextmanager
def ranked_by(layer: torch.nn.Module, scores: np.ndarray | None) -> Iterator[None]:
    """While it lasts, the reference ranks its proposals by ``scores``, float32 ``[B, proposals]``; None: by its own.

    Args:
        layer: the class head over the proposals, ``[B, proposals, classes]``, whose best class is the score.

    Raises:
        ExportFailed: ``scores`` differ from the reference's own by more than a thousandth of the largest.
    """
    import torch

    if scores is None:
        yield
        return

    def rank(_, __, logits: torch.Tensor) -> torch.Tensor:
        hook.remove()  # the head may be asked again about those that were taken
        own, given = logits.amax(2), torch.from_numpy(scores).to(logits.dtype)
        apart = float((own - given).abs().max() / own.abs().max())
        if not apart <= _AGREE:
            raise ExportFailed(f"The graph's scores of proposals differ from the reference network's by {apart:.3g}.")
        # ranks, because torch's topk takes equal scores in any order, ONNX's by their place
        ranks = given.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        return -ranks.to(logits.dtype)[:, :, None].expand_as(logits)

    hook = layer.register_forward_hook(rank)
    try:
        yield
    finally:
        hook.remove()
