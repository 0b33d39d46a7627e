"""Converts the pictures that Python callers pass to the bytes of a request: encoded, or ``.npy`` of uint8 RGB."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from tritonvision.errors import InvalidParameter, InvalidPicture, PictureTooLarge, one_of_several
from tritonvision.pictures import NPY_MAGIC, Header, exif_orientation, read_header, rgb_of, turned
from tritonvision.settings import Settings

_COLOUR_FORMATS = ("rgb", "bgr")
_KINDS = "NumPy arrays, PIL images, torch tensors, paths, http(s) URLs and the bytes of a picture file"
_REDIRECTS = 3
_LONGEST_NAME = 200
_LIMIT = "TRITONVISION_MAX_BODY_BYTES sets the limit."


def read_images(
    images: Any, settings: Settings, color_format: str | None = None, auto_orient: bool = True
) -> list[bytes]:  # fmt: skip
    """Every picture of ``images``, in order.

    Args:
        images: one, or a list or tuple of: a NumPy array (uint8; height, width, 3 in BGR, or grey), a PIL image of any
            mode but ``F`` and ``I`` (floats and 32-bit numbers), a torch tensor (3 or 1, height, width, or a batch of
            them; RGB; uint8, or float in 0..1), a path, an http(s) URL, the bytes of a picture file.
        settings: the limits of a picture and of its bytes.
        color_format: ``rgb`` or ``bgr``, of arrays and tensors, where they are not as above.
        auto_orient: whether a PIL image is turned as its EXIF says; files are turned where they are decoded.

    Raises:
        InvalidPicture, PictureTooLarge: an image is none of these, or over a limit.
        InvalidParameter: another ``color_format``.
    """
    if color_format is not None and color_format not in _COLOUR_FORMATS:
        raise InvalidParameter(f"'input_color_format' must be {' or '.join(_COLOUR_FORMATS)}.")
    listed = images if isinstance(images, list | tuple) else [images]
    found = []
    for number, image in enumerate(listed, 1):
        with one_of_several(number, len(listed)):
            for picture in _bytes_of(image, settings, color_format, auto_orient):
                read_header(picture, settings.max_pixels)
                found.append(picture)
    if not found:
        raise InvalidPicture("There is no picture in the list.")
    return found


def _bytes_of(image: Any, settings: Settings, color_format: str | None, auto_orient: bool) -> Iterator[bytes]:
    if isinstance(image, np.ndarray):
        yield _npy(_checked(image), color_format or "bgr")
    elif isinstance(image, Image.Image):
        yield _of_pil(image, auto_orient)
    elif _is_tensor(image):
        yield from (_npy(array, color_format or "rgb") for array in _of_tensor(image))
    elif isinstance(image, bytes | bytearray | memoryview):
        yield _encoded(bytes(image))
    elif isinstance(image, str) and image.lower().startswith(("http://", "https://")):
        yield _encoded(_fetch(image, settings))
    elif isinstance(image, str | os.PathLike):
        yield _encoded(_read(Path(image), settings.max_body_bytes))
    else:
        raise InvalidPicture(f"A {type(image).__name__} is no picture.", hint=f"Pictures are {_KINDS}.")


def _encoded(data: bytes) -> bytes:
    if data.startswith(NPY_MAGIC):
        raise InvalidPicture("The bytes are an array, not a picture.", hint="Load it with numpy and pass the array.")
    return data


# ---- arrays ----------------------------------------------------------------------------------------------------------


def _checked(array: np.ndarray) -> np.ndarray:
    """uint8 ``[h,w]`` or ``[h,w,c]`` with 1 or 3 channels. Raises InvalidPicture."""
    if array.dtype != np.uint8:
        raise InvalidPicture(
            f"The array holds {array.dtype}, and pictures are uint8.",
            hint="Values in 0..1: pass (array * 255).round().astype('uint8').",
        )
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3)):
        shape = " x ".join(map(str, array.shape))
        raise InvalidPicture(
            f"The array has the shape {shape}, and pictures are height x width, alone or by 1 or 3 channels.",
            hint="Several pictures go as a list; of four channels drop the last.",
        )
    return array


def npy(pixels: np.ndarray) -> bytes:
    """The ``.npy`` bytes of RGB uint8 ``[h, w, 3]``: what a model takes without decoding anything."""
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(pixels), allow_pickle=False)
    return stream.getvalue()


def _npy(array: np.ndarray, color_format: str) -> bytes:
    if array.ndim == 2 or array.shape[2] == 1:
        array = np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2)
    elif color_format == "bgr":
        array = array[..., ::-1]
    return npy(array)


def _is_tensor(image: Any) -> bool:
    """Whether it is a torch tensor, told by its type's name, so that torch need not be installed."""
    names = ((base.__module__.partition(".")[0], base.__name__) for base in type(image).__mro__)
    return ("torch", "Tensor") in names


def _of_tensor(tensor: Any) -> Iterator[np.ndarray]:
    """uint8 ``[h,w,c]`` of each picture in a tensor."""
    values = tensor.detach().cpu()
    if str(values.dtype) == "torch.bfloat16":  # which numpy has not
        values = values.float()
    array = values.numpy()
    batch = array[None] if array.ndim == 3 else array
    if batch.ndim != 4 or batch.shape[1] not in (1, 3):
        shape = " x ".join(map(str, array.shape))
        raise InvalidPicture(
            f"The tensor has the shape {shape}, and pictures are channels x height x width, 1 or 3 channels.",
            hint="A batch has one more axis in front.",
        )
    if np.issubdtype(batch.dtype, np.floating):
        if not (np.isfinite(batch).all() and batch.min(initial=0) >= 0 and batch.max(initial=0) <= 1):
            raise InvalidPicture("A tensor of floats must hold 0 to 1.", hint="Divide by 255, or pass uint8.")
        batch = np.rint(batch.astype(np.float32) * 255).astype(np.uint8)
    for picture in batch:
        yield _checked(picture.transpose(1, 2, 0))


def _of_pil(image: Image.Image, auto_orient: bool) -> bytes:
    """The pixels that decoding its file would give: the same conversions, and the same EXIF orientation."""
    try:
        pixels = rgb_of(image)
    except (OSError, ValueError, SyntaxError) as error:  # Pillow decodes lazily
        raise InvalidPicture("The PIL image cannot be read.") from error
    exif = image.info.get("exif")
    orientation = exif_orientation(exif) if isinstance(exif, bytes) else 1
    header = Header(image.format or "", *image.size, orientation)
    return _npy(turned(pixels, header.turn(auto_orient)), "rgb")


# ---- files -----------------------------------------------------------------------------------------------------------


def _short(path: Path | str) -> str:
    """A path shortened for a message: base64 taken for a path would fill the screen."""
    text = str(path)
    return text if len(text) <= _LONGEST_NAME else f"{text[:_LONGEST_NAME]}..."


def _read(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)  # a device or a pipe tells no size
    except FileNotFoundError as error:
        raise InvalidPicture(f"There is no file '{_short(path)}'.", hint=f"Pictures are {_KINDS}.") from error
    except (OSError, ValueError) as error:
        raise InvalidPicture(f"The file '{_short(path)}' cannot be read.") from error
    if len(data) > most:
        raise PictureTooLarge(f"'{_short(path.name)}' is larger than {most >> 20} MB.", hint=_LIMIT)
    return data


def _fetch(url: str, settings: Settings) -> bytes:
    """The body at a URL that the caller chose. Raises InvalidPicture, PictureTooLarge."""
    data = bytearray()
    try:
        with (
            httpx.Client(follow_redirects=True, max_redirects=_REDIRECTS, timeout=settings.url_timeout) as client,
            client.stream("GET", url) as reply,
        ):
            if not reply.is_success:
                raise InvalidPicture(f"The picture's address answers {reply.status_code}.")
            for part in reply.iter_bytes():
                data += part
                if len(data) > settings.max_body_bytes:
                    most = settings.max_body_bytes >> 20
                    raise PictureTooLarge(f"The picture is larger than {most} MB.", hint=_LIMIT)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise InvalidPicture("The picture cannot be fetched from its address.") from error
    return bytes(data)
