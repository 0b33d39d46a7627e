"""A video with an end: every frame of it, once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from tritonvision.client.video.frames import USUAL_RATE, Frame, Frames, decoded, no_video, pixels_of

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame

_MICROSECONDS = 1_000_000
_SHORT = 2  # frames that a video may fall short of the length that the file tells


class FileFrames(Frames):
    """Every frame of an open container.

    Args:
        name: of the video.
        container: with a stream of pictures; closed with this object.
        say: told at the end, in one sentence, of frames that the file promised and that were not there.
    """

    live = False

    def __init__(self, name: str, container: InputContainer, say: Callable[[str], None]):
        from tritonvision.client.video.opening import picture_stream

        stream = picture_stream(container)
        assert stream is not None, "open_video refuses what has none"
        stream.thread_type = "AUTO"  # type: ignore[assignment]  # several frames are decoded at once
        self.name, self._container, self._stream, self._say = name, container, stream, say
        self.rate = float(stream.average_rate or stream.guessed_rate or USUAL_RATE)
        self._length = self._seconds()
        self.total = stream.frames or (round(self._length * self.rate) if self._length else None)
        self._start = (container.start_time or 0) / _MICROSECONDS
        self._count, self._end = 0, 0.0
        self._broke_off, self._damaged = False, list[Any]()
        self._frames = decoded(self._packets(), self._damaged.append)
        self._closed, self._reading = False, threading.Lock()  # FFmpeg must not close what it reads

    def read(self) -> Frame | None:
        with self._reading:
            if self._closed:
                return None
            frame = next(self._frames, None)
            if frame is not None:
                return self._numbered(frame)
        self._check_end()
        return None

    def close(self) -> None:
        with self._reading:
            if not self._closed:
                self._closed = True
                self._container.close()

    def _numbered(self, frame: VideoFrame) -> Frame:
        time = self._count / self.rate if frame.time is None else frame.time - self._start
        lasts = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else 1 / self.rate
        self._end = max(self._end, time + lasts)
        number, self._count = self._count, self._count + 1
        return Frame(number, time, pixels_of(frame))

    def _packets(self) -> Iterator[Any]:
        from av.error import FFmpegError

        try:
            for packet in self._container.demux(self._stream):
                if packet.size:  # the end is an empty one
                    self._broke_off = packet.is_corrupt  # the last one is, where the file was cut in the middle of it
                yield packet
        except FFmpegError:
            self._broke_off = True

    def _seconds(self) -> float | None:
        """The length of the pictures, as the file tells it."""
        if self._stream.duration and self._stream.time_base:
            return float(self._stream.duration * self._stream.time_base)
        alone = len(self._container.streams) == 1  # the sound beside them may be longer
        return self._container.duration / _MICROSECONDS if alone and self._container.duration else None

    def _check_end(self) -> None:
        """Raises InvalidPicture unless the video ended where it said that it would."""
        if not self._count:
            why = "none of its pictures can be decoded" if self._damaged else "it is empty"
            raise no_video(f"The video has no frame: {why}.", "It may begin without a key frame: record it again.")
        if self._broke_off or (self._length or 0) - self._end > _SHORT / self.rate:
            said = f" of {self._length:.1f} s" if self._length else ""
            raise no_video(
                f"The video ends in the middle: {self._end:.1f} s{said} could be read, {self._count} frames.",
                "The file was cut off, copied in part, or is still being written.",
            )
        if self._damaged:
            self._say(f"{self.name}: {len(self._damaged)} damaged parts could not be decoded and were left out.")
        elif self._count < self._stream.frames:
            self._say(f"{self.name}: the file promises {self._stream.frames} frames and has {self._count}.")
