"""Encoded picture to pixels; the rule stands in config.pbtxt."""

from tritonvision.python_backend.pre import TritonPythonModel  # noqa: F401
