"""Pictures a second of `tritonvision batch` on this machine, against one process and against the limit of the same run.

    python benchmarks/batch_speed.py --repository DIR [MODEL ...] [--pictures 200] [--rounds 2]

One process is AutoModel asked about one picture after another. The limit is decode, resize, ONNX Runtime and post step
called directly, by two processes with a thread each or one with two (limit.py). All take turns. A batch counts from its
first file to its last, so that the start of the server is not in it, and for a minute at most. A model takes about a
minute on two cores.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import machine
import pictures
from limit import Limit
from speed import QUESTIONS

from tritonvision import AutoModel
from tritonvision.batch import local
from tritonvision.batch.folder import Folder
from tritonvision.batch.job import Job, begin
from tritonvision.batch.worker import Server
from tritonvision.engine.facts import Facts
from tritonvision.publication import Repository
from tritonvision.settings import read_settings
from tritonvision.tasks import TASKS, resolve

_SHARD = 20
_WINDOW = 4.0
_LONGEST = 60.0  # seconds of a batch; what is not answered by then is left out


def batch(repository: Path, model: str, folder: Path) -> float:
    """Pictures a second of a batch over ``folder``."""
    facts = Facts.of(Repository(repository).resolve(model))
    asked = resolve(TASKS[facts.task].parameters, QUESTIONS[model].settings)
    job = Job(facts.id, facts.fingerprint, facts.task, asked, "", str(folder), None, _SHARD)
    times: list[tuple[float, int]] = []
    with tempfile.TemporaryDirectory() as out:
        there = Folder(out)
        plan = begin(there, job)
        settings = read_settings(repository=repository)

        def told(done) -> None:
            times.append((time.perf_counter(), done.pictures))

        async def run() -> None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LONGEST):
                    await local.run(job, there, plan, range(len(plan)), Server(settings), told, print)

        asyncio.run(run())
    if len(times) < 2:
        raise SystemExit(f"Error: in {_LONGEST:.0f} s a batch wrote {len(times)} of the two parts that a rate takes.")
    return sum(count for _, count in times[1:]) / (times[-1][0] - times[0][0])


def one_process(repository: Path, model: str, folder: Path) -> float:
    """Pictures a second of AutoModel, one after another."""
    asked = AutoModel.from_pretrained(model)
    files = sorted(folder.iterdir())
    asked(str(files[0]), **QUESTIONS[model].settings)
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < _WINDOW:
        asked(str(files[count % len(files)]), **QUESTIONS[model].settings)
        count += 1
    rate = count / (time.perf_counter() - began)
    AutoModel.close()
    return rate


def main() -> None:
    """Print a table in Markdown for each model."""
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*", default=["yolov8n-640"])
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    os.environ["TRITONVISION_REPOSITORY"] = str(given.repository)  # for AutoModel
    print(machine.describe())
    jpegs = pictures.jpegs(32)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(given.pictures):
            (folder / f"{number:05}.jpg").write_bytes(jpegs[number % len(jpegs)])
        for model in given.models:
            print(f"\n{model}\n\n| | pictures a second | of the limit | of one process |\n|---|---|---|---|")
            table(model, given.repository, folder, jpegs, given.rounds)


def table(model: str, repository: Path, folder: Path, jpegs: list[bytes], rounds: int) -> None:
    """Measure by turns, and print medians."""
    limits = {
        f"limit, {processes} process{'es' * (processes > 1)} x {threads} thread{'s' * (threads > 1)}": Limit(
            repository, model, QUESTIONS[model].settings, processes, threads, jpegs
        )
        for processes, threads in ((2, 1), (1, 2), (1, 1))
    }
    rates: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, limit in limits.items():
            rates.setdefault(name, []).append(limit.window(_WINDOW).per_second)
        rates.setdefault("AutoModel, one after another", []).append(one_process(repository, model, folder))
        rates.setdefault("tritonvision batch", []).append(batch(repository, model, folder))
    for limit in limits.values():
        limit.close()
    best = max(statistics.median(values) for name, values in rates.items() if name.startswith("limit"))
    one = statistics.median(rates["AutoModel, one after another"])
    for name, values in rates.items():
        rate = statistics.median(values)
        print(f"| {name} | {rate:.1f} | {rate / best:.2f} | {rate / one:.2f} |")


if __name__ == "__main__":
    main()
