"""A public model in one process: the same pre and post functions around onnxruntime, without Triton.

The parity gate measures it against the oracle, the benchmarks take it as the limit that serving is compared with.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from tritonvision.ensembles.heads import HeadKind
from tritonvision.ensembles.resize import Resize
from tritonvision.tasks import resolve


class LocalPipeline:
    """pre -> net -> post on one picture at a time.

    Args:
        graph: an ONNX file, ``pixels`` in, the canonical tensors of ``head`` out.
        threads: of onnxruntime, for one operator; 0 leaves the choice to it.
    """

    def __init__(self, graph: Path, resize: Resize, head: HeadKind, threads: int = 0):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.resize = resize
        self.head = head
        self.session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])

    def tensors(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """uint8 ``[B,H,W,3]`` to the head kind's canonical tensors, batch axis first."""
        names = [tensor.name for tensor in self.head.tensors]
        return dict(zip(names, self.session.run(names, {"pixels": pixels}), strict=True))

    def __call__(self, picture: np.ndarray, parameters: Mapping[str, Any] | None = None) -> dict[str, np.ndarray]:
        """RGB uint8 ``[h,w,3]`` to the head kind's public outputs, in picture pixels.

        Args:
            parameters: settings of the task; what is absent takes its default. Raises InvalidParameter.
        """
        settings = resolve(self.head.task.parameters, parameters or {})
        pixels, geometry = self.resize(picture)
        tensors = self.tensors(pixels[None])
        return self.head.post({name: value[0] for name, value in tensors.items()}, geometry, settings)
