"""Asks a Triton about pictures and gets result types back."""

from tritonvision.client.triton import AsyncTritonClient, TritonClient

__all__ = ["AsyncTritonClient", "TritonClient"]
