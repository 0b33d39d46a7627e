"""One frame of a video, what gives frames one after another, and the words for what cannot be read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tritonvision.errors import InvalidPicture, PictureTooLarge
from tritonvision.pictures import MAX_PIXELS, turned

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

USUAL_RATE = 25.0  # frames a second of a video that tells none
_BY_ROTATION = {90: 8, 180: 3, -180: 3, -90: 6}  # degrees counterclockwise -> the EXIF orientation that does the same
_LARGEST = "Make it smaller first, e.g. with: ffmpeg -i VIDEO -vf scale=1920:-2 smaller.mp4"


@dataclass(frozen=True)
class Frame:
    """One frame.

    Attributes:
        number: from 0 in a file; of a live source the count of frames it sent, so that those skipped leave gaps.
        time: seconds since the start of the file, or since a live source was opened.
        pixels: RGB uint8 ``[h, w, 3]``, turned as the video says that it is to be shown.
    """

    number: int
    time: float
    pixels: np.ndarray

    def npy(self) -> bytes:
        """The pixels as ``.npy`` bytes, which a model reads as they are: no encoder, no loss."""
        from tritonvision.client.images import npy  # which loads an HTTP client

        return npy(self.pixels)


class Frames(ABC):
    """Gives the frames of one source. Calls come from one thread at a time, but for :meth:`close`.

    Attributes:
        name: of the source, without a password.
        live: whether frames are skipped when they are not read in time; else each is given once.
        rate: frames a second on average, as the source tells it.
        total: frames there will be, as the source tells it; None when it does not.
    """

    name: str
    live: bool
    rate: float
    total: int | None

    @abstractmethod
    def read(self) -> Frame | None:
        """The next frame; None after the last one, and after :meth:`close`.

        Raises:
            InvalidPicture: there is no frame, or the video ends before its end; every frame that it has was given.
        """

    @abstractmethod
    def close(self) -> None:
        """Stop reading. May be called twice, and while another thread reads."""

    @property
    def skipped(self) -> int:
        """Frames of a live source that nobody read."""
        return 0


def decoded(packets: Iterator[Any], damaged: Callable[[Any], None]) -> Iterator[VideoFrame]:
    """The frames of ``packets``; ``damaged`` is told the time of those that cannot be decoded and are left out."""
    from av.error import FFmpegError

    for packet in packets:
        try:
            frames = packet.decode()
        except FFmpegError:
            damaged(packet.pts)
            continue
        yield from frames


def pixels_of(frame: VideoFrame) -> np.ndarray:
    """RGB uint8 ``[h, w, 3]`` of a decoded frame, turned. Raises PictureTooLarge."""
    if frame.width * frame.height > MAX_PIXELS:
        raise PictureTooLarge(f"A frame of {frame.width} x {frame.height} pixels is over the limit.", hint=_LARGEST)
    pixels = np.ascontiguousarray(frame.to_ndarray(format="rgb24"))
    return turned(pixels, _BY_ROTATION.get(frame.rotation, 1))


def no_video(sentence: str, hint: str = "") -> InvalidPicture:
    """The error of a source that gives no frames."""
    return InvalidPicture(sentence, hint=hint or "Anything that ffmpeg plays can be read: ffplay VIDEO shows whether.")
