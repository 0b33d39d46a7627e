"""One Triton server for every vision model of the catalogue, in the dialects people already speak."""

from __future__ import annotations

import os
import sys
from typing import Any

__version__ = "0.1.0"

# ONNX Runtime 1.29 and later reports to Microsoft from every process that imports it. It reads this variable once, at
# its import, and no module of ours can import it before this package. Who wants the reports sets the variable to 0.
os.environ["ORT_DISABLE_TELEMETRY"] = os.environ.get("ORT_DISABLE_TELEMETRY") or "1"
# OpenVINO and NNCF report to Intel through a package of its own at their import, and do without where it is missing: so
# it is missing in every process of ours. Who wants the reports imports it first.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


def __getattr__(name: str) -> Any:
    """``AutoModel`` and ``ViModel``, when they are first asked for: importing the package stays quick, and free of
    gRPC.
    """
    if name == "AutoModel":
        from tritonvision.client.automodel.model import AutoModel

        return AutoModel
    if name == "ViModel":
        from tritonvision.client.vi.model import ViModel

        return ViModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
