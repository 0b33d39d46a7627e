"""What the golden questions cost a load, and how soon sabotage is refused.

    python benchmarks/loads.py --repository DIR [--rounds 6] [--models yolov8n-640 ...] [--no-sabotage]

DIR holds the models of the tests (``make test`` publishes them); a copy of its links is tampered with, by the ways of
``tests/served/sabotage.py``. Loads with golden questions and without them take turns. A process computes slowly for the
first time, in the question or for its first caller: so the time until two who come at the load have their answers is
measured, too. A refusal is timed from when Triton has loaded the model; beside it is how long a good one is asked, most
of which its networks take.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import machine
import pictures

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "served"))
from sabotage import WAYS, vouch  # noqa: E402

from tritonvision.engine.engine import Engine  # noqa: E402
from tritonvision.engine.golden_check import GoldenCheck  # noqa: E402
from tritonvision.errors import BrokenModel  # noqa: E402
from tritonvision.publication import Manifest, Repository  # noqa: E402
from tritonvision.server import Embedded  # noqa: E402
from tritonvision.settings import Settings  # noqa: E402

REFUSED = 2.0  # seconds
PHOTO = pictures.jpegs(1)[0]


class Timed:
    """A golden check that keeps how long its last question took, in seconds, all stages included."""

    def __init__(self, check: GoldenCheck):
        self._check, self.seconds = check, 0.0

    async def ask(self, *arguments: Any, **named: Any) -> Any:
        """See :meth:`GoldenCheck.ask`."""
        began = time.perf_counter()
        try:
            return await self._check.ask(*arguments, **named)
        finally:
            self.seconds = time.perf_counter() - began


def main() -> None:
    """Print two tables in Markdown."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--models", nargs="*", default=["yolov8n-640", "resnet18", "rfdetr-nano", "clip/RN50"])
    parser.add_argument("--no-sabotage", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.repository.parent) as folder:
        root = Path(folder) / "models"
        settings = Settings(repository=root, log_dir=Path(folder))
        server = Embedded(settings)
        root.mkdir()
        server.start()
        try:
            asyncio.run(measure(server, settings, given))
        finally:
            server.stop()


async def measure(server: Embedded, settings: Settings, given: argparse.Namespace) -> None:
    """Both tables."""
    root = settings.repository
    print(f"{machine.describe()}; medians of {given.rounds} loads\n")
    print("| model | load without the question, s | with it, s | growth | the question, s | growth to two answers |")
    print("|---|---|---|---|---|---|")
    for model in given.models:
        put(given.repository, root, model)
        found: dict[bool, list[Loaded]] = {False: [], True: []}
        for turn in range(given.rounds + 1):  # the first one warms
            for ask, times in found.items():
                one = await loaded(server, settings, model, ask=ask)
                times += [one] if turn else []
        (plain, _, base), (asked, question, answered) = (
            [statistics.median(each) for each in zip(*times, strict=True)] for times in found.values()
        )
        print(
            f"| {model} | {plain:.3f} | {asked:.3f} | {asked / plain - 1:+.0%} | {question:.3f} "
            f"| {base:.3f} to {answered:.3f} s, {answered / base - 1:+.0%} |", flush=True,
        )  # fmt: skip
    if given.no_sabotage:
        return
    print(f"\n| sabotage | model | refused | after, s | a good one is asked in, s | within {REFUSED:g} s over it |")
    print("|---|---|---|---|---|---|")
    good: dict[str, float] = {}
    for way in WAYS:
        put(given.repository, root, way.model)
        if way.model not in good:
            good[way.model] = (await loaded(server, settings, way.model, ask=True)).question
        way.do(root)
        vouch(root, way.model)
        try:
            await loaded(server, settings, way.model, ask=True, keep=(taken := []))
            refused = "no"
        except BrokenModel:
            refused = "yes"
        over = taken[-1] - good[way.model]
        print(
            f"| {way.what} | {way.model} | {refused} | {taken[-1]:.2f} | {good[way.model]:.2f} "
            f"| {'yes' if over <= REFUSED else 'no'} |", flush=True,
        )  # fmt: skip


class Loaded(NamedTuple):
    """Seconds of a load, of its golden question, and until both callers who came at the load have their answers."""

    load: float
    question: float
    answers: float


async def loaded(
    server: Embedded, settings: Settings, model: str, ask: bool, keep: list[float] | None = None
) -> Loaded:  # fmt: skip
    """Load a model, and let two callers ask; the model goes afterwards. Raises BrokenModel."""
    engine = Engine(settings, server)
    await engine.start()
    timed = Timed(engine._loader.golden)
    engine._loader.golden = timed if ask else None
    try:
        began = time.perf_counter()
        await engine.load(model)
        load = time.perf_counter() - began
        await asyncio.gather(*(engine.infer(model, [PHOTO], {}) for _ in range(2)))
        return Loaded(load, timed.seconds, time.perf_counter() - began)
    finally:
        if keep is not None:
            keep.append(timed.seconds)
        for manifest in engine.loaded():
            await engine.unload(manifest.id)
        await engine.close()


def put(source: Path, root: Path, model: str) -> Manifest:
    """The model, as it was published, and nothing else."""
    for folder in root.iterdir():
        shutil.rmtree(folder)
    manifest = Repository(source).resolve(model)
    link: Callable[[str, str], None] = lambda file, target: Path(target).hardlink_to(file)  # noqa: E731
    for name in {*manifest.steps, *manifest.triton_names}:
        shutil.copytree(source / name, root / name, copy_function=link)
    return manifest


if __name__ == "__main__":
    main()
