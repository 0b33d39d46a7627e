"""Goodput under three times the load a model can take, and under 64 callers, against its peak.

    python benchmarks/overload.py --repository DIR [--seconds 30] [--milliseconds 2000 50]

The model is the face detector of the repository with a network that sleeps, so that the queueing is measured and not
the processor. Each caller sends one request after another and, after a 503, waits for the time in Retry-After.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import shutil
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import load
import machine
import pictures
from google.protobuf import text_format
from served import Served
from tritonclient.grpc import model_config_pb2 as pb

_FACE = "mediapipe-face-detection"
_PEAK, _MANY = 6, 64
_NETWORK = '''
import time
import numpy as np
import triton_python_backend_utils as pb_utils

OUTPUTS = {{"boxes": [1, 4], "scores": [1], "class_ids": [1], "keypoints": [1, 6, 2]}}


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        time.sleep({seconds})
        batch = request.inputs()[0].as_numpy().shape[0]
        return pb_utils.InferenceResponse([
            pb_utils.Tensor(name, np.zeros([batch, *shape], np.int32 if name == "class_ids" else np.float32))
            for name, shape in OUTPUTS.items()
        ])
'''


@dataclass
class Seen:
    """The answers of one window: seconds of each, and the number of each status."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter = field(default_factory=Counter)

    def row(self, callers: int, window: float, peak: float) -> str:
        """A row of the table."""
        ordered = sorted(self.seconds) or [float("nan")]
        goodput = len(self.seconds) / window
        refused, other = self.statuses[503], sum(self.statuses.values()) - self.statuses[503] - self.statuses[200]
        return (
            f"| {callers} | {goodput:.2f} | {goodput / (peak or goodput or 1):.2f} | {ordered[len(ordered) // 2]:.2f} "
            f"| {ordered[-1]:.2f} | {refused} | {other} |"
        )


def main() -> None:
    """Print a table in Markdown for each network."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--milliseconds", type=int, nargs="+", default=[2000, 50])
    options = parser.parse_args()
    print(machine.describe())
    messages = load.requests("/infer/keypoints_detection", pictures.jpegs(4, 320, 240), model_id=_FACE)
    for milliseconds in options.milliseconds:
        print(f"\nA network of {milliseconds} ms, two processes, {options.seconds:g} s a row\n")
        print("| callers | answers a second | of the peak | median, s | slowest, s | refused with 503 | failed |")
        print("|---|---|---|---|---|---|---|")
        with tempfile.TemporaryDirectory() as folder:
            publish(options.repository, Path(folder), milliseconds / 1000)
            with Served(Path(folder), _FACE) as server:
                asyncio.run(measure(server.port, messages, options.seconds))


def publish(source: Path, root: Path, seconds: float) -> None:
    """Publish the face detector of ``source`` below ``root`` with a network that sleeps."""
    for name in ("pre--square-128", "post--keypoints", f"net--{_FACE}", _FACE):
        shutil.copytree(source / name, root / name)
    network = root / f"net--{_FACE}"
    config = text_format.Parse((network / "config.pbtxt").read_text(), pb.ModelConfig())
    config.backend = "python"
    (network / "config.pbtxt").write_text(text_format.MessageToString(config))
    (network / "1" / "model.onnx").unlink()
    (network / "1" / "model.py").write_text(_NETWORK.format(seconds=seconds))
    manifest = root / _FACE / "manifest.json"
    # without digests, which are those of the real network
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"files": {}}))


async def measure(port: int, messages: list[bytes], seconds: float) -> None:
    """The rows of one network: the peak, three times as many callers, 64 callers, and one caller right after these."""
    peak = 0.0
    await window(port, messages, 1, 3.0)
    for callers in (_PEAK, 3 * _PEAK, _MANY, 1):
        seen = await window(port, messages, callers, seconds)
        print(seen.row(callers, seconds, peak), flush=True)
        peak = peak or len(seen.seconds) / seconds


async def window(port: int, messages: list[bytes], callers: int, seconds: float) -> Seen:
    """Send requests for some seconds; only answers within them count, and callers that still wait then disconnect."""
    seen, turns = Seen(), itertools.cycle(messages)
    tasks = [asyncio.create_task(_caller(port, turns, seen)) for _ in range(callers)]
    await asyncio.wait(tasks, timeout=seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return seen


async def _caller(port: int, turns, seen: Seen) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**22)
    try:
        while True:
            asked = time.perf_counter()
            writer.write(next(turns))
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            fields = dict(line.lower().split(": ", 1) for line in head[1:] if ": " in line)
            await reader.readexactly(int(fields["content-length"]))
            status = int(head[0].split()[1])
            seen.statuses[status] += 1
            if status == 200:
                seen.seconds.append(time.perf_counter() - asked)
            elif status == 503:
                await asyncio.sleep(float(fields["retry-after"]))
    finally:
        writer.close()


if __name__ == "__main__":
    main()
