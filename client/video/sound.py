"""The sound of a video file, copied beside pictures that are written anew."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tritonvision.client.video.opening import open_container

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import OutputContainer
    from av.packet import Packet

_MICROSECONDS = 1_000_000
_HELD = {  # by FFmpeg's name of the format: it claims to write more than it does, and than players read
    "mp4": frozenset({"aac", "ac3", "alac", "eac3", "flac", "mp3", "opus"}),
    "mov": frozenset({"aac", "ac3", "alac", "eac3", "mp3"}),
    "ipod": frozenset({"aac", "ac3", "alac"}),  # .m4v
}


class Sound:
    """The best sound of a file, packet by packet: it is not decoded. The file is opened a second time for it.

    Args:
        source: path or address of the video.

    Raises:
        SetupError, InvalidPicture: as :func:`tritonvision.client.video.opening.open_video`.
    """

    def __init__(self, source: str):
        self._container = open_container(source)
        best = self._container.streams.best("audio")
        self._stream: AudioStream | None = self._container.streams.audio[0] if best is not None else None
        for stream in self._container.streams.audio:
            if best is not None and stream.index == best.index:
                self._stream = stream
        self._start = (self._container.start_time or 0) / _MICROSECONDS
        self._packets = self._read()
        self._next: Packet | None = None

    @property
    def codec(self) -> str:
        """Name of its codec; empty where the video is silent."""
        return "" if self._stream is None else self._stream.codec_context.codec.canonical_name

    def add_to(self, target: OutputContainer) -> bool:
        """Give ``target`` a stream for it; whether its format can hold this codec."""
        if self._stream is None or self.codec not in _HELD.get(target.format.name, target.supported_codecs):
            return False
        self._target, self._copy = target, target.add_stream_from_template(self._stream)
        self._next = next(self._packets, None)
        return True

    def copy(self, until: float | None = None) -> None:
        """Write what is heard before ``until``, in seconds since the start of the video; None for all the rest."""
        while self._next is not None:
            packet, base = self._next, self._next.time_base
            assert packet.dts is not None, "_read gives no others"
            if until is not None and float(packet.dts * base) - self._start > until:
                return
            shift = round(self._start / base)
            packet.dts -= shift
            packet.pts = packet.dts if packet.pts is None else packet.pts - shift
            packet.stream = self._copy
            self._target.mux(packet)
            self._next = next(self._packets, None)

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def _read(self) -> Iterator[Packet]:
        from av.error import FFmpegError

        try:
            yield from (packet for packet in self._container.demux(self._stream) if packet.dts is not None)
        except FFmpegError:  # the file ends in the middle, which reading its pictures tells
            return
