"""One Triton server for every vision model of the catalogue, in the dialects people already speak."""

from __future__ import annotations

import os
from typing import Any

__version__ = "0.1.0"

# ONNX Runtime 1.29 and later reports to Microsoft from every process that imports it. It reads this variable once, at
# its import, and no module of ours can import it before this package. Who wants the reports sets the variable to 0.
os.environ["ORT_DISABLE_TELEMETRY"] = os.environ.get("ORT_DISABLE_TELEMETRY") or "1"


def __getattr__(name: str) -> Any:
    """``AutoModel``, when it is first asked for: importing the package stays quick, and free of gRPC."""
    if name == "AutoModel":
        from tritonvision.client.automodel.model import AutoModel

        return AutoModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
