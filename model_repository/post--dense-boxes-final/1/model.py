"""Canonical tensors to answers; the head kind stands in config.pbtxt."""

from tritonvision.python_backend.post import TritonPythonModel  # noqa: F401
