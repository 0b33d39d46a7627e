"""Videos for the tests, made on the spot. Every frame carries its number as stripes, so that it is known again."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

_BITS = 10  # numbers below 1024


def striped(number: int, height: int = 96, width: int = 160) -> np.ndarray:
    """RGB uint8 ``[h, w, 3]`` with the bits of ``number`` as upright white stripes on dark blue, lowest bit left."""
    picture = np.full((height, width, 3), (10, 20, 60), np.uint8)
    step = width // _BITS
    for bit in range(_BITS):
        if number >> bit & 1:
            picture[:, bit * step : (bit + 1) * step] = 235
    return picture


def number_of(picture: np.ndarray) -> int:
    """The number of a striped picture."""
    step = picture.shape[1] // _BITS
    row = picture[picture.shape[0] // 2, step // 2 :: step, 0][:_BITS]
    return sum(1 << bit for bit, value in enumerate(row) if value > 128)


def write(
    path: Path, pictures: Sequence[np.ndarray], *, rate: int = 25, times: Sequence[float] | None = None,
    codec: str = "libx264", rotation: int = 0, sound: str = "", format: str | None = None, **options: str,
) -> Path:  # fmt: skip
    """Write RGB ``pictures`` of one size as a video.

    Args:
        times: of the frames in seconds; None for ``rate`` frames a second.
        rotation: degrees counterclockwise that a player is to turn it by.
        sound: a codec for a tone of the video's length.
        options: of the encoder.
    """
    height, width = pictures[0].shape[:2]
    with av.open(str(path), "w", format=format) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.options = {"crf": "1", "preset": "ultrafast", **options} if codec == "libx264" else options
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        tone = container.add_stream(sound, rate=16000) if sound else None
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = round(times[number] * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if tone is not None:
            seconds = times[-1] if times is not None else len(pictures) / rate
            _add_tone(container, tone, seconds)
    return path


def _add_tone(container, stream, seconds: float) -> None:
    wave = np.sin(np.arange(int(seconds * 16000)) * 440 * 2 * np.pi / 16000)
    for first in range(0, len(wave), 1024):
        part = (wave[first : first + 1024] * 8000).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(part, format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, first, Fraction(1, 16000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def film(path: Path, count: int = 20, **options) -> Path:
    """A video of ``count`` striped frames."""
    return write(path, [striped(number) for number in range(count)], **options)


def read_all(frames) -> list:
    """Every frame of a :class:`~tritonvision.client.video.frames.Frames`, which is closed."""
    found = []
    while (frame := frames.read()) is not None:
        found.append(frame)
    frames.close()
    return found
