"""Live sources on this machine whose connection a test can cut: RTSP with H.264 over RTP, MPEG-TS over TCP, and the
Motion JPEG over HTTP that cheap cameras send.

The RTSP server speaks what RFC 2326 asks of one stream over the same connection; its RTP packets are FFmpeg's.
"""

from __future__ import annotations

import re
import socket
import struct
import threading
from contextlib import suppress
from fractions import Fraction

import av
import cv2
from videos import striped

_SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=test\r\nt=0 0\r\na=control:*\r\nm=video 0 RTP/AVP 96\r\n"
    "c=IN IP4 0.0.0.0\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:track1\r\n"
)
_RTCP = range(200, 205)


class LiveSource:
    """Sends striped frames, numbered from 0 and without an end, to whoever connects.

    Args:
        kind: ``rtsp``, ``mpegts`` or ``mjpeg``.
        rate: frames a second.
    """

    def __init__(self, kind: str, rate: int = 25):
        self._kind, self._rate = kind, rate
        self._port = 0
        self._open = threading.Event()
        self.connections = 0
        self.resume()

    def __enter__(self) -> LiveSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()

    @property
    def url(self) -> str:
        """The address."""
        place = f"127.0.0.1:{self._port}"
        return {"rtsp": f"rtsp://{place}/stream", "mpegts": f"tcp://{place}", "mjpeg": f"http://{place}/video.mjpg"}[
            self._kind
        ]

    def resume(self) -> None:
        """Listen, after :meth:`cut` on the same port."""
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", self._port))
        self._listener.listen()
        self._port = self._listener.getsockname()[1]
        self._peer: socket.socket | None = None
        self._open.set()
        self._thread = threading.Thread(target=self._serve, args=(self._listener,), daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """Drop the connection, and refuse new ones."""
        self._open.clear()
        for one in (self._listener, self._peer):
            if one is not None:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()
        self._thread.join(5)

    def _serve(self, listener: socket.socket) -> None:
        send = {"rtsp": self._rtsp, "mpegts": self._mpegts, "mjpeg": self._mjpeg}[self._kind]
        while self._open.is_set():
            with suppress(OSError, av.error.FFmpegError):
                self._peer, _ = listener.accept()
                self.connections += 1
                with self._peer:
                    send(self._peer)

    def _rtsp(self, peer: socket.socket) -> None:
        asked = b""
        while self._open.is_set():
            asked += (part := peer.recv(4096))
            if not part:
                return
            while b"\r\n\r\n" in asked:
                head, _, asked = asked.partition(b"\r\n\r\n")
                method = head.split()[0].decode()
                number = re.search(rb"CSeq: *(\d+)", head)[1].decode()
                more = {
                    "OPTIONS": "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n",
                    "DESCRIBE": f"Content-Type: application/sdp\r\nContent-Length: {len(_SDP)}\r\n",
                    "SETUP": "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n",
                }.get(method, "Session: 1\r\n")
                body = _SDP if method == "DESCRIBE" else ""
                peer.sendall(f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\n{more}\r\n{body}".encode())
                if method == "PLAY":
                    self._h264(_Interleaved(peer), "rtp", {"packetsize": "1400"})

    def _mpegts(self, peer: socket.socket) -> None:
        self._h264(_Raw(peer), "mpegts", {})

    def _mjpeg(self, peer: socket.socket) -> None:
        peer.recv(4096)
        peer.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n")
        number = 0
        while self._open.is_set():
            jpeg = cv2.imencode(".jpg", striped(number)[..., ::-1])[1].tobytes()
            peer.sendall(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg))
            peer.sendall(jpeg + b"\r\n")
            number += 1
            self._wait()

    def _h264(self, target, format: str, options: dict[str, str]) -> None:
        with av.open(target, "w", format=format, container_options={"flush_packets": "1", **options}) as container:
            stream = container.add_stream("libx264", rate=self._rate)
            picture = striped(0)
            stream.height, stream.width, stream.pix_fmt = *picture.shape[:2], "yuv420p"
            stream.options = {"preset": "ultrafast", "tune": "zerolatency", "crf": "1", "g": "5"}
            number = 0
            while self._open.is_set():
                frame = av.VideoFrame.from_ndarray(striped(number), format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, self._rate)
                container.mux(stream.encode(frame))
                if target.gone:
                    return
                number += 1
                self._wait()

    def _wait(self) -> None:
        """The time between two frames."""
        threading.Event().wait(1 / self._rate)


class _Raw:
    """What FFmpeg writes into, and a socket sends. FFmpeg is not told that the peer is gone, but ``gone`` is set."""

    def __init__(self, peer: socket.socket):
        self._peer, self.gone = peer, False

    def write(self, data: bytes) -> int:
        try:
            self._peer.sendall(self._framed(bytes(data)))
        except OSError:
            self.gone = True
        return len(data)

    def _framed(self, data: bytes) -> bytes:
        return data


class _Interleaved(_Raw):
    """RTP and RTCP packets in an RTSP connection: FFmpeg writes one at a time."""

    def _framed(self, data: bytes) -> bytes:
        return struct.pack(">cBH", b"$", data[1] in _RTCP, len(data)) + data
