"""Different test pictures: JPEGs of 1280x720 and about 150 KB, crops and rotations of the photo in the repository."""

from __future__ import annotations

import io
from importlib import resources

import numpy as np
from PIL import Image


def photo() -> Image.Image:
    """The photograph in the repository, RGB."""
    data = resources.files("tritonvision.data").joinpath("astronaut.png").read_bytes()
    return Image.open(io.BytesIO(data)).convert("RGB")


def jpegs(count: int, width: int = 1280, height: int = 720) -> list[bytes]:
    """``count`` different JPEGs: four views of the photo side by side, with different crops, rotations, brightness."""
    source = photo()
    made = []
    for seed in range(count):
        random = np.random.default_rng(seed)
        page = Image.new("RGB", (width, height))
        for column in range(4):
            left, top = random.integers(0, 160, 2)
            view = source.crop((left, top, left + 352, top + 352)).rotate(random.uniform(-20, 20), Image.BICUBIC)
            page.paste(view.resize((width // 4, height), Image.BICUBIC), (column * width // 4, 0))
        noise = random.normal(0, 7, (height, width, 3))
        made.append(_encode(Image.fromarray(np.clip(np.asarray(page) + noise, 0, 255).astype(np.uint8))))
    return made


def _encode(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=72)
    return stream.getvalue()
