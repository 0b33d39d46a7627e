"""Proposals of two-stage detectors: which ones the decoder takes, and in which order, depends on rounding.

Such a network scores hundreds or thousands of positions, and query i of its decoder starts from the position of rank
i. Two positions whose scores differ by less than float32's precision may swap ranks with another runtime or batch size,
and then all answers change a little, although both are correct. So a graph is compared in two parts: first the scores;
if they agree, the reference ranks its proposals by the graph's scores.
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

_AGREE = 1e-3  # allowed difference between the graph's and the reference's scores, relative to their largest magnitude


class GraphRanking:
    """The scores by which an exported graph ranks its proposals: the input of its first TopK."""

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
    """A context in which the reference ranks proposals by ``scores``, float32 ``[B, proposals]``; None: by its own.

    Args:
        layer: the class head over the proposals, ``[B, proposals, classes]``; the score is that of the best class.

    Raises:
        ExportFailed: ``scores`` differ from the reference's own by more than a thousandth of the largest.
    """
    import torch

    if scores is None:
        yield
        return

    def rank(_, __, logits: torch.Tensor) -> torch.Tensor:
        hook.remove()  # the head may be called again on the selected proposals
        own, given = logits.amax(2), torch.from_numpy(scores).to(logits.dtype)
        apart = float((own - given).abs().max() / own.abs().max())
        if not apart <= _AGREE:
            raise ExportFailed(f"The graph's scores of proposals differ from the reference network's by {apart:.3g}.")
        # ranks instead of scores, because torch's topk does not define the order of equal scores; ONNX's keeps theirs
        ranks = given.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        return -ranks.to(logits.dtype)[:, :, None].expand_as(logits)

    hook = layer.register_forward_hook(rank)
    try:
        yield
    finally:
        hook.remove()
