"""More work than a model can do: goodput, refusals and memory; a greedy caller beside a modest one; a slow model.

    python benchmarks/overload.py --repository DIR [--seconds 60] [--milliseconds 2000 50] [--only load callers models]

The model is the face detector of the repository with a network that sleeps, so that the queueing is measured and not
the processor. Callers begin within a second of each other. Each sends one request after another and, when it is
refused, waits for the time in Retry-After; a greedy one asks again after a tenth of a second. Halfway through the row
of 64 callers 64 more come in one moment: what they are told is in no row and in a line of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import load
import machine
import pictures
from google.protobuf import text_format
from served import Served
from tritonclient.grpc import model_config_pb2 as pb

from tritonvision import api_keys, catalog

_FACE, _OTHER = "mediapipe-face-detection", "other/faces/1"
_ROUTE = "/infer/keypoints_detection"
_PEAK, _MANY = 6, 64
_MODEST, _IMPATIENT = 2, 0.1
_REFUSED = (429, 503, 504)
_COLUMNS = (
    "answers a second", "median, s", "slowest, s", "refused", "refusal p50, ms", "p99, ms", "late (504)", "failed",
)  # fmt: skip
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
    """The answers of one window: seconds of each, seconds of each refusal by its status, and every status."""

    seconds: list[float] = field(default_factory=list)
    refusals: dict[int, list[float]] = field(default_factory=dict)
    statuses: Counter = field(default_factory=Counter)

    def add(self, status: int, seconds: float) -> None:
        """Note one answer."""
        self.statuses[status] += 1
        (self.seconds if status == 200 else self.refusals.setdefault(status, [])).append(seconds)

    @property
    def failed(self) -> int:
        """Answers that are neither good nor a refusal."""
        return sum(count for status, count in self.statuses.items() if status != 200 and status not in _REFUSED)

    def columns(self, window: float) -> list[str]:
        """The values of :data:`_COLUMNS`."""
        at_once = [seconds for status in (429, 503) for seconds in self.refusals.get(status, [])]
        return [
            f"{len(self.seconds) / window:.2f}", f"{_at(self.seconds, 0.5):.2f}", f"{_at(self.seconds, 1):.2f}",
            str(len(at_once)), f"{_at(at_once, 0.5) * 1000:.1f}", f"{_at(at_once, 0.99) * 1000:.1f}",
            str(len(self.refusals.get(504, []))), str(self.failed),
        ]  # fmt: skip


def main() -> None:
    """Print tables in Markdown."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--milliseconds", type=int, nargs="+", default=[2000, 50])
    parts = ["load", "callers", "models"]
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    options = parser.parse_args()
    print(machine.describe())
    for milliseconds in options.milliseconds if "load" in options.only else ():
        table(
            f"A network of {milliseconds} ms, two processes, {options.seconds:g} s a row", "callers", *_COLUMNS,
            "of the peak", "memory before, MB", "after, MB",
        )  # fmt: skip
        with serving(options.repository, {_FACE: milliseconds / 1000}) as server:
            asyncio.run(overload(server, options.seconds))
    if "callers" in options.only:
        table(f"Two callers with a key each, a network of 50 ms, {options.seconds:g} s a row", "who asks", *_COLUMNS)
        keys = [api_keys.ApiKey(name=name, sha256=api_keys.digest(name)) for name in ("greedy", "modest")]
        told = {"TRITONVISION_KEYS": f"[{','.join(key.line() for key in keys)}]"}
        with serving(options.repository, {_FACE: 0.05}, told) as server:
            asyncio.run(two_callers(server, options.seconds))
    if "models" in options.only:
        table(f"A model of 2 s and one of 50 ms, {options.seconds:g} s a row", "what is asked", *_COLUMNS)
        with serving(options.repository, {_FACE: 0.05, _OTHER: 2.0}) as server:
            asyncio.run(two_models(server, options.seconds))


@contextmanager
def serving(repository: Path, models: dict[str, float], environment: dict[str, str] | None = None) -> Iterator[Served]:
    """A server of face detectors, each with a network that sleeps for so many seconds."""
    with tempfile.TemporaryDirectory() as folder:
        for step in ("pre--square-128", "post--keypoints"):
            shutil.copytree(repository / step, Path(folder) / step)
        for model, seconds in models.items():
            publish(repository, Path(folder), seconds, model)
        with Served(Path(folder), *models, environment=environment or {}) as server:
            yield server


def publish(source: Path, root: Path, seconds: float, model: str = _FACE) -> None:
    """Publish the face detector of ``source`` below ``root`` as ``model``, with a network that sleeps."""
    name = catalog.triton_name(model)
    for prefix in ("net--", ""):
        folder = root / f"{prefix}{name}"
        shutil.copytree(source / f"{prefix}{_FACE}", folder, ignore=shutil.ignore_patterns("model.onnx", "golden"))
        config = text_format.Parse((folder / "config.pbtxt").read_text(), pb.ModelConfig())
        config.name = f"{prefix}{name}"
        if prefix:
            config.backend = "python"
            (folder / "1" / "model.py").write_text(_NETWORK.format(seconds=seconds))
        for step in config.ensemble_scheduling.step:
            step.model_name = step.model_name.replace(_FACE, name)
        config.parameters.pop("manifest", None)
        (folder / "config.pbtxt").write_text(text_format.MessageToString(config))
    path = root / name / "manifest.json"
    manifest = json.loads(path.read_text())
    # without digests, which are those of the real network
    manifest |= {"id": model, "files": {}, "steps": [step.replace(_FACE, name) for step in manifest["steps"]]}
    path.write_text(json.dumps(manifest))


def asking(model: str = _FACE, key: str = "") -> Iterator[bytes]:
    """Requests without end."""
    return itertools.cycle(load.requests(_ROUTE, pictures.jpegs(4, 320, 240), key, model_id=model))


async def overload(server: Served, seconds: float) -> None:
    """The rows of one network: the peak, three times as many callers, 64 callers, and one caller right after these."""
    peak, turns, told = 0.0, asking(), []
    for callers in (_PEAK, 3 * _PEAK, _MANY, 1):
        if callers > 1:
            await idle(server.port, turns)
        before = server.pss_megabytes()
        crowd = asyncio.create_task(in_one_moment(server.port, seconds / 2, turns)) if callers == _MANY else None
        (seen,) = await window(server.port, seconds, (turns, callers))
        goodput = len(seen.seconds) / seconds
        peak = peak or goodput or 1.0
        row(str(callers), seen, seconds, f"{goodput / peak:.2f}", f"{before:.0f}", f"{server.pss_megabytes():.0f}")
        told += sorted(await crowd) if crowd else []
    if told:
        print(f"\n{_MANY} more in one moment: {len(told)} refused, the first after {told[0] * 1000:.1f} ms, the last "
              f"after {told[-1] * 1000:.1f} ms.")  # fmt: skip


async def two_callers(server: Served, seconds: float) -> None:
    """A modest caller alone, and beside a greedy one; the greedy one alone."""
    modest, greedy = (asking(key="modest"), _MODEST), (asking(key="greedy"), _MANY)
    await window(server.port, 3.0, modest)
    (seen,) = await window(server.port, seconds, modest)
    row("modest, alone", seen, seconds)
    seen, other = await window(server.port, seconds, modest, (*greedy, _IMPATIENT))
    row("modest, beside the greedy one", seen, seconds)
    row("greedy, beside the modest one", other, seconds)
    (seen,) = await window(server.port, seconds, (*greedy, _IMPATIENT))
    row("greedy, alone", seen, seconds)


async def two_models(server: Served, seconds: float) -> None:
    """The fast model alone, and beside the slow one that many ask."""
    fast, slow = (asking(), _PEAK), (asking(_OTHER), _MANY, _IMPATIENT)
    await window(server.port, 3.0, fast)
    (seen,) = await window(server.port, seconds, fast)
    row("fast, alone", seen, seconds)
    seen, other = await window(server.port, seconds, fast, slow)
    row("fast, beside the slow one", seen, seconds)
    row("slow, beside the fast one", other, seconds)


def table(title: str, *columns: str) -> None:
    """Print the title and the head of a table."""
    print(f"\n{title}\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")


def row(name: str, seen: Seen, seconds: float, *more: str) -> None:
    """Print a row of :data:`_COLUMNS` and what stands behind them."""
    print(f"| {' | '.join((name, *seen.columns(seconds), *more))} |", flush=True)


async def window(port: int, seconds: float, *groups: tuple) -> list[Seen]:
    """Send requests for some seconds; only answers within them count, and callers that still wait then disconnect.

    Args:
        groups: of callers: their requests, how many there are, and the seconds that they wait after a refusal instead
            of those in Retry-After, if any.
    """
    found = [Seen() for _ in groups]
    tasks = [
        asyncio.create_task(_caller(port, turns, seen, *pause))
        for seen, (turns, callers, *pause) in zip(found, groups, strict=True) for _ in range(callers)
    ]  # fmt: skip
    await asyncio.wait(tasks, timeout=seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return found


async def in_one_moment(port: int, wait: float, turns: Iterator[bytes]) -> list[float]:
    """Many callers that are connected and send a request each in the same moment: seconds of each that is refused."""
    await asyncio.sleep(wait)
    seen = Seen()
    connections = [await asyncio.open_connection("127.0.0.1", port, limit=2**22) for _ in range(_MANY)]
    tasks = [asyncio.create_task(_ask(*connection, next(turns), seen)) for connection in connections]
    await asyncio.wait(tasks, timeout=1.0)  # who is not refused waits for an answer, and hangs up
    for task, (_, writer) in zip(tasks, connections, strict=True):
        task.cancel()
        writer.close()
    await asyncio.gather(*tasks, return_exceptions=True)
    return seen.refusals.get(503, [])


async def idle(port: int, turns: Iterator[bytes]) -> None:
    """Return when nothing is left of a window before: two requests in a row have been answered."""
    seen = Seen()
    task = asyncio.create_task(_caller(port, turns, seen))
    while seen.statuses[200] < 2:
        await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.wait([task])


async def _caller(port: int, turns: Iterator[bytes], seen: Seen, pause: float | None = None) -> None:
    await asyncio.sleep(random.random())
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**22)
    try:
        while True:
            status, again = await _ask(reader, writer, next(turns), seen)
            if status in _REFUSED:
                await asyncio.sleep(again if pause is None else pause)
    finally:
        writer.close()


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, message: bytes, seen: Seen
) -> tuple[int, float]:  # fmt: skip
    """Send a request and note its answer: its status, and the seconds in its Retry-After."""
    asked = time.perf_counter()
    writer.write(message)
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in head[1:] if ": " in line)
    await reader.readexactly(int(fields["content-length"]))
    status = int(head[0].split()[1])
    seen.add(status, time.perf_counter() - asked)
    return status, float(fields.get("retry-after", 1))


def _at(seconds: list[float], q: float) -> float:
    """The ``q``-quantile; not a number where there is nothing."""
    ordered = sorted(seconds) or [float("nan")]
    return ordered[min(int(q * len(ordered)), len(ordered) - 1)]


if __name__ == "__main__":
    main()
