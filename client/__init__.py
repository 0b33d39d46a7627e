"""Asks a Triton about pictures and gets result types back."""

from tritonvision.engine.triton_grpc import AsyncTritonClient, TritonClient

__all__ = ["AsyncTritonClient", "TritonClient"]
