"""Pictures and their times, written as a video that any player shows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from tritonvision.client.video.sound import Sound
from tritonvision.errors import InvalidParameter, SetupError

WRITTEN = (".mp4", ".mov", ".mkv", ".m4v")
_TICKS = 90_000  # a second: whole numbers for 24, 25, 30, 50, 60 frames a second and for 30000/1001
_KEY_SECONDS = 2  # between two key frames: a player seeks to one, and what is lost by a crash is what follows the last
_QUALITY = {"preset": "veryfast", "crf": "20"}
_BT709 = 1  # the number of FFmpeg, of H.264 and of the file formats
_TV_RANGE = 1


class VideoWriter:
    """Writes H.264. The file can be played whenever the process ends, up to the last key frame before a crash.

    Args:
        target: a file of :data:`WRITTEN`; one that is there is replaced. Its folder is made.
        rate: frames a second on average.
        sound: that is copied beside the pictures, closed with this; None for a silent video.
        say: told in one sentence what the file does not hold as it was.

    Raises:
        InvalidParameter: another kind of file.
        SetupError: it cannot be written.
    """

    def __init__(self, target: Path, rate: float, sound: Sound | None, say: Callable[[str], None]):
        import av

        check_target(target)
        self._target, self._rate, self._sound, self._say = target, rate, sound, say
        self._size: tuple[int, int] | None = None  # height, width
        self._fits, self._closed = True, False
        self._last = -1  # time of the last frame in ticks
        self._writing = threading.Lock()  # whoever closes it may not be who writes
        with _in_our_words(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            # fragments while it is written; the index that every player reads when it is closed
            options = {"flush_packets": "1"}
            if target.suffix.lower() != ".mkv":
                options["movflags"] = "hybrid_fragmented+frag_keyframe+delay_moov"
            self._container = av.open(str(target), "w", container_options=options)

    def add(self, picture: np.ndarray, seconds: float) -> None:
        """Write a picture, BGR uint8 ``[h, w, 3]``, shown from ``seconds`` on.

        Every picture is written: one that is not later than the one before is shown as soon after it as there is a
        time for. A picture of another size than the first is scaled into it, with black bars where its shape differs.

        Raises:
            SetupError: it cannot be written, e.g. for want of room.
        """
        from av import VideoFrame

        with self._writing, _in_our_words(self._target):
            if self._closed:  # by who was not to wait for this picture
                return
            if self._size is None:
                self._begin(picture)
            ticks = max(round(seconds * _TICKS), self._last + 1)
            frame = VideoFrame.from_ndarray(self._fitted(picture), format="bgr24").reformat(
                format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG"
            )
            frame.pts, frame.time_base, self._last = ticks, Fraction(1, _TICKS), ticks
            self._container.mux(self._stream.encode(frame))
            if self._sound is not None:
                self._sound.copy(seconds)

    def close(self, whole: bool = True) -> None:
        """Finish the file; without a picture there is none.

        Args:
            whole: whether the video was written to its end; else its sound ends with the last picture, too.
        """
        with self._writing, _in_our_words(self._target):
            self._closed = True
            try:
                if self._size is not None:
                    self._container.mux(self._stream.encode(None))
                    if self._sound is not None and whole:
                        self._sound.copy()
            finally:
                self._container.close()
                if self._sound is not None:
                    self._sound.close()
                if self._size is None:
                    self._target.unlink(missing_ok=True)

    def _begin(self, picture: np.ndarray) -> None:
        height, width = picture.shape[:2]
        self._size = height + height % 2, width + width % 2  # colours are kept for two by two pixels
        self._stream = self._container.add_stream("libx264", rate=Fraction(self._rate).limit_denominator(1001))
        self._stream.height, self._stream.width = self._size
        self._stream.pix_fmt = "yuv420p"
        self._stream.options = dict(_QUALITY)
        context = self._stream.codec_context
        context.time_base = Fraction(1, _TICKS)
        context.gop_size = max(1, round(_KEY_SECONDS * self._rate))
        context.color_primaries = context.color_trc = context.colorspace = _BT709
        context.color_range = _TV_RANGE
        if self._sound is not None and not self._sound.add_to(self._container):
            if self._sound.codec:
                kind = self._target.suffix
                self._say(f"The sound is {self._sound.codec}, which a {kind} file cannot hold; it is left out.")
            self._sound.close()
            self._sound = None

    def _fitted(self, picture: np.ndarray) -> np.ndarray:
        assert self._size is not None, "_begin set it"
        (height, width), (high, wide) = self._size, picture.shape[:2]
        if (high, wide) == self._size:
            return np.ascontiguousarray(picture)
        below, right = height - high, width - wide
        if 0 <= below <= 1 and 0 <= right <= 1:
            return cv2.copyMakeBorder(picture, 0, below, 0, right, cv2.BORDER_REPLICATE)
        if self._fits:
            self._fits = False
            self._say(f"The pictures change their size to {wide} x {high}; the saved video keeps {width} x {height}.")
        scale = min(height / high, width / wide)
        inner = cv2.resize(picture, (max(1, round(wide * scale)), max(1, round(high * scale))))
        top, left = (height - inner.shape[0]) // 2, (width - inner.shape[1]) // 2
        below, right = height - inner.shape[0] - top, width - inner.shape[1] - left
        return cv2.copyMakeBorder(inner, top, below, left, right, cv2.BORDER_CONSTANT)


def check_target(target: Path) -> None:
    """Raises InvalidParameter unless it is a file of :data:`WRITTEN`."""
    if target.suffix.lower() not in WRITTEN:
        raise InvalidParameter(
            f"Videos are not written as {target.suffix or 'a file without an ending'}.",
            hint=f"Use one of {', '.join(WRITTEN)}.",
        )


@contextmanager
def _in_our_words(target: Path) -> Iterator[None]:
    from av.error import FFmpegError

    try:
        yield
    except (FFmpegError, OSError) as error:
        why = f": {error.strerror.lower()}" if error.strerror else ""
        raise SetupError(f"{target} cannot be written{why}.", hint="Choose another file for the video.") from error
