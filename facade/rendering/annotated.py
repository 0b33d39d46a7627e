"""Answers drawn into their pictures, as JPEG."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from tritonvision.errors import NotSupported
from tritonvision.pictures import decode
from tritonvision.publication import Manifest

_QUALITY = 90


def annotated(
    picture: bytes, result: Any, manifest: Manifest, auto_orient: bool = True, *, line: int | None = None,
    names: bool = True,
) -> bytes:  # fmt: skip
    """JPEG bytes of ``picture`` (encoded, or ``.npy`` RGB) at full size with ``result`` drawn in.

    Args:
        line, names: as :func:`tritonvision.drawing.results.draw` takes them.

    Raises:
        InvalidPicture: the picture cannot be decoded.
        NotSupported: this server has no drawing installed.
    """
    from PIL import Image

    try:
        from tritonvision.drawing.results import draw
    except ImportError as error:
        raise NotSupported("This server cannot draw.", hint="Install tritonvision[client].") from error
    rgb = decode(picture, auto_orient)
    drawn = draw(
        np.ascontiguousarray(rgb[..., ::-1]), result, manifest.labels, manifest.keypoint_labels, line=line, names=names
    )
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(drawn[..., ::-1])).save(stream, "JPEG", quality=_QUALITY)
    return stream.getvalue()
