"""Opens what a person names as a video: a file, a webcam's number, or the address of a stream."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tritonvision.client.video.frames import Frames, no_video
from tritonvision.errors import SetupError, TritonVisionError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.error import FFmpegError
    from av.video.stream import VideoStream

ENDINGS = frozenset(
    ".3gp .asf .avi .flv .h264 .h265 .m2ts .m3u8 .m4v .mjpeg .mjpg .mkv .mov .mp4 .mpeg .mpg .mts .mxf .ogv .ts .webm "
    ".wmv .y4m".split()
)
STANDARD_INPUT = "-"
_WEBCAM = re.compile(r"\d{1,3}|/dev/video\d{1,3}")
_STREAM = re.compile(r"(?:rtsps?|rtmps?|rtp|udp|tcp|srt|mms[ht]?)://.+", re.IGNORECASE)
_HTTP = re.compile(r"https?://.+", re.IGNORECASE)
_USER = re.compile(r"(?<=://)[^/?#]*@")
_OPEN_SECONDS, _READ_SECONDS = 4.0, 5.0  # of a network; a source that sends nothing for so long is lost
_NO_INDEX = (b"ftyp", b"moov", b"mdat", b"wide")  # where an MP4 or MOV begins
_CAMERA_HINT = "Connected cameras are listed by: ls /dev/video*"


def is_video(source: str) -> bool:
    """Whether ``source`` names a video by its ending, its scheme or a webcam's number; nothing is opened.

    A file called like a number is a file.
    """
    if _WEBCAM.fullmatch(source):
        return not (source.isdigit() and Path(source).is_file())
    if _STREAM.fullmatch(source):
        return True
    path = re.split("[?#]", source)[0] if _HTTP.fullmatch(source) else source
    return Path(path).suffix.lower() in ENDINGS


def open_video(source: str, say: Callable[[str], None]) -> Frames:
    """The frames of ``source``.

    Args:
        source: a path, the number of a webcam or its device, an address (RTSP, RTMP, HTTP, UDP, TCP, SRT ...), or ``-``
            for standard input.
        say: told in one sentence when a live source is lost, and when it is back; and of frames that a file lacks.

    Raises:
        SetupError: PyAV is not installed, or there is no such camera.
        InvalidPicture: nothing is there, or it is no video.
    """
    from tritonvision.client.video.files import FileFrames
    from tritonvision.client.video.live import LiveFrames

    try:
        import av  # noqa: F401  loading it takes a while, and not everybody has it
    except ModuleNotFoundError as error:
        raise SetupError(
            "Reading videos needs the package 'av', which is not installed.",
            hint="Get it with: pip install 'tritonvision[video]'",
        ) from error
    name = shown_name(source)
    container = open_container(source)
    # an address with an end is a film somewhere else
    live = bool(is_camera(source) or _STREAM.fullmatch(source) or (_HTTP.fullmatch(source) and not container.duration))
    if live:
        return LiveFrames(name, container, lambda: open_container(source), say)
    return FileFrames(name, container, say)


def is_camera(source: str) -> bool:
    """Whether it is the number or the device of a webcam."""
    return is_video(source) and bool(_WEBCAM.fullmatch(source))


def shown_name(source: str) -> str:
    """``source`` without the user and the password of an address."""
    if not (_STREAM.fullmatch(source) or _HTTP.fullmatch(source)):
        return source
    return _USER.sub("", source)


def picture_stream(container: InputContainer) -> VideoStream | None:
    """The stream of moving pictures; the cover of a song is none."""
    from av.stream import Disposition

    moving = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    best = container.streams.best("video")
    return next((stream for stream in moving if best is not None and stream.index == best.index), (*moving, None)[0])


def open_container(source: str) -> InputContainer:
    """What :func:`open_video` reads, open, with a video in it. Raises SetupError, InvalidPicture."""
    import av
    from av.error import FFmpegError

    try:
        if is_camera(source):
            container = _open_camera(source)
        elif source == STANDARD_INPUT:
            container = av.open(sys.stdin.buffer, "r")
        elif _STREAM.fullmatch(source) or _HTTP.fullmatch(source):
            options = {"analyzeduration": "1000000"}  # microseconds; 5 s by default, and it holds the start back
            if source.lower().startswith("rtsp"):
                options["rtsp_transport"] = "tcp"  # passes firewalls, and loses no packets
            container = av.open(source, options=options, timeout=(_OPEN_SECONDS, _READ_SECONDS))
        else:
            # a file that is a list of addresses is not followed
            container = av.open(source, options={"protocol_whitelist": "file,crypto,data"})
    except (FFmpegError, ValueError) as error:  # ValueError: a path with a zero byte
        raise _why_not(source, error) from error
    if picture_stream(container) is None:
        container.close()
        raise no_video("There is no video in it.", "It may hold sound alone.")
    return container


def _open_camera(source: str) -> InputContainer:
    import av

    if sys.platform == "darwin":
        return av.open(f"{source}:none", format="avfoundation", options={"framerate": "30"})
    if sys.platform != "linux":
        raise SetupError("Webcams are read on Linux and macOS.", hint="Give the address of a stream of the camera.")
    return av.open(source if source.startswith("/") else f"/dev/video{source}", format="v4l2")


def _why_not(source: str, error: FFmpegError | ValueError) -> TritonVisionError:
    """FFmpeg's error in a sentence."""
    from av import error as av_errors

    if is_camera(source):
        if isinstance(error, FileNotFoundError):
            return SetupError(f"There is no camera {source}.", hint=_CAMERA_HINT)
        if isinstance(error, PermissionError):
            return SetupError(f"The camera {source} may not be read.", hint="Add yourself to the group 'video'.")
        return SetupError(f"The camera {source} gives no pictures.", hint="Another program may be using it.")
    if isinstance(error, ConnectionRefusedError | ConnectionResetError | TimeoutError | av_errors.ExitError):
        return no_video("Nothing answers at this address.", "Check that the source sends, and its port.")
    if isinstance(error, av_errors.HTTPUnauthorizedError | av_errors.HTTPForbiddenError):
        return no_video("The source refuses us.", "Put user and password into the address: rtsp://USER:PASSWORD@HOST/")
    if isinstance(error, av_errors.HTTPError):
        return no_video("The source has nothing under this address.", "Check the part behind the host.")
    if isinstance(error, FileNotFoundError):
        return no_video("There is no such file.", "Give the path of a video, a webcam's number, or an address.")
    if isinstance(error, IsADirectoryError):
        return no_video("This is a folder.", "Name the videos in it.")
    if isinstance(error, PermissionError):
        return no_video("The file may not be read.", "Its owner can allow it.")
    if isinstance(error, av_errors.InvalidDataError) and _begins_like_mp4(source):
        return no_video(
            "The video has no index: its recording was cut off, or goes on still.",
            "Recordings to .mkv or .ts can be read when they are cut off.",
        )
    if isinstance(error, av_errors.InvalidDataError):
        return no_video("This is no video that can be read.")
    if isinstance(error, av_errors.ProtocolNotFoundError | av_errors.DemuxerNotFoundError):
        return no_video("Addresses or files of this kind cannot be read.")
    return no_video("The video cannot be opened.")


def _begins_like_mp4(source: str) -> bool:
    try:
        with open(source, "rb") as file:
            return file.read(8)[4:] in _NO_INDEX
    except OSError:  # an address
        return False
