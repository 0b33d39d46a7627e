"""One Triton server for every vision model of the catalogue, in the dialects people already speak."""

__version__ = "0.1.0"
