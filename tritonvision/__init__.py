"""One Triton server for every vision model of the catalogue, in the dialects people already speak."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """``AutoModel``, when it is first asked for: importing the package stays quick, and free of gRPC."""
    if name == "AutoModel":
        from tritonvision.client.automodel.model import AutoModel

        return AutoModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
