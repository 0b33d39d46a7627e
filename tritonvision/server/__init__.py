"""Owns a tritonserver process: finds it, starts it, watches it, heals it, stops it."""

from tritonvision.server.embedded import Embedded

__all__ = ["Embedded"]
