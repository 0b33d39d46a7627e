"""Frames a second of a video: through a tritonserver as ``predict`` asks it, and by a loop in one process.

    python benchmarks/video_speed.py MODEL_ID [VIDEO] [--frames 100] [--rounds 3]

The loop decodes a frame with PyAV, and runs the published pre step, network and post step on it, one frame after
another: what a script without a server does. Without VIDEO one is made of the photograph in the tree, 1280 x 720 at 25
frames a second. The two take turns, and the medians and their ratio are printed. Needs the environment ``.venv``.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from contextlib import aclosing
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from tritonvision import tasks
from tritonvision.client.connections import EngineConnection
from tritonvision.client.video.in_order import in_order
from tritonvision.client.video.opening import open_video
from tritonvision.engine.facts import Facts
from tritonvision.engine.own import own_engine
from tritonvision.ensembles.published import open_published
from tritonvision.publication import Repository
from tritonvision.settings import read_settings

TREE = Path(__file__).parents[1]


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("model")
    asked.add_argument("video", nargs="?")
    asked.add_argument("--frames", type=int, default=100)
    asked.add_argument("--rounds", type=int, default=3)
    given = asked.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        video = given.video or make_film(Path(folder) / "film.mp4", given.frames)
        asyncio.run(compare(given.model, str(video), given.frames, given.rounds))


def make_film(path: Path, count: int) -> Path:
    """The photograph, moved a little each frame."""
    photo = cv2.imread(str(TREE / "tritonvision" / "data" / "astronaut.png"))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
        for number in range(count):
            moved = np.float32([[1.4, 0, 200 + 200 * np.sin(number / 12)], [0, 1.4, -10]])
            picture = cv2.warpAffine(photo, moved, (1280, 720), borderMode=cv2.BORDER_REFLECT)
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


async def compare(model_id: str, video: str, count: int, rounds: int) -> None:
    """Print the frames a second of both, and their ratio."""
    settings = read_settings()
    manifest = Repository(settings.repository).resolve(model_id)
    parameters = tasks.resolve(tasks.TASKS[manifest.task].parameters, {})
    in_process = open_published(settings.repository, manifest)[""]
    served, alone = [], []
    async with own_engine(settings) as engine:
        connection = EngineConnection(engine, print)
        facts: Facts = await connection.facts(model_id)

        async def ask(frame):
            return await connection.infer(facts, [frame.npy()], parameters)

        async def serve(most: int) -> float:
            began, seen = time.perf_counter(), 0
            async with aclosing(in_order(open_video(video, print), ask, most)) as answered:
                async for _ in answered:
                    seen += 1
            return seen / (time.perf_counter() - began)

        def loop(most: int) -> float:
            began, frames = time.perf_counter(), open_video(video, print)
            for number in range(most):
                if (frame := frames.read()) is None:
                    number -= 1
                    break
                in_process(frame.pixels, parameters)
            frames.close()
            return (number + 1) / (time.perf_counter() - began)

        await serve(5)
        loop(5)
        for _ in range(rounds):
            served.append(await serve(count))
            alone.append(await asyncio.to_thread(loop, count))
    one, other = statistics.median(served), statistics.median(alone)
    print(f"{model_id}: served {one:.1f}, in one process {other:.1f} frames a second, ratio {one / other:.2f}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
