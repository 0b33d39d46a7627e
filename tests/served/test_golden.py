"""No wrong answer survives a load: what a model was asked when it was published, it is asked again, stage by stage.

The real tritonserver, real networks; every file that is tampered with has the sha256 that the manifest tells.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tritonvision.engine.engine import Engine
from tritonvision.engine.golden_check import Verdict
from tritonvision.server import Embedded
from tritonvision.settings import Settings

sys.path.insert(0, str(Path(__file__).parent))
from sabotage import WAYS, Sabotage, replace, step, vouch  # noqa: E402

FACE = "mediapipe-face-detection"


class House:
    """A repository of its own, whose files are put right before each question, and the engine in front of it."""

    def __init__(self, source: Path, root: Path, log_dir: Path):
        self.source, self.root = source, root
        self.settings = Settings(repository=root, log_dir=log_dir)
        self.server = Embedded(self.settings)

    def restore(self, *models: str) -> None:
        """The models as they were published, nothing else, with one process for each step: processes take time."""
        for folder in self.root.iterdir():
            shutil.rmtree(folder)
        for model in models:
            for name in _folders(self.source, model):
                shutil.copytree(self.source / name, self.root / name, copy_function=_link, dirs_exist_ok=True)
        for path in self.root.rglob("*.pbtxt"):
            replace(path, path.read_text().replace("count: 2\n", "count: 1\n").encode())

    def run(self, work):
        """What ``work(engine)`` returns."""

        async def main():
            engine = Engine(self.settings, self.server)
            await engine.start()
            try:
                return await work(engine)
            finally:
                for manifest in engine.loaded():
                    await engine.unload(manifest.id)
                await engine.close()

        return asyncio.run(main())

    def verify(self, model: str) -> Verdict:
        return self.run(lambda engine: engine.verify(model))


def _link(source: str, target: str) -> None:
    if not Path(target).exists():
        Path(target).hardlink_to(source)


def _folders(source: Path, model: str) -> list[str]:
    from tritonvision.publication import Repository

    manifest = Repository(source).get(model)
    return [*manifest.triton_names, *manifest.steps]


@pytest.fixture(scope="module")
def house(served_repository, tmp_path_factory) -> Iterator[House]:
    root = tmp_path_factory.mktemp("tampered")
    house = House(served_repository, root, tmp_path_factory.mktemp("log"))
    house.server.start()
    yield house
    house.server.stop()


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.what.replace(" ", "-"))
def test_what_answers_otherwise_is_not_served_and_its_stage_is_named(house: House, way: Sabotage):
    house.restore(way.model)
    way.do(house.root)
    vouch(house.root, way.model)
    verdict = house.verify(way.model)
    assert (verdict.blamed, verdict.passed) == (way.stage, False), (verdict.why, verdict.to_dict())
    assert verdict.why


def test_the_command_shows_the_stage_that_differs_and_ends_with_1(house: House):
    from tritonvision.server.process import free_port

    house.restore(FACE)
    step("post--keypoints", "post", "found['boxes'] = found['boxes'] + np.float32(2)")(house.root)
    done = subprocess.run(
        [sys.executable, "-m", "tritonvision", "verify", "--repository", str(house.root)], capture_output=True,
        env=os.environ | {"TRITONVISION_PORT": str(free_port()), "COLUMNS": "160"}, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    heading, *lines = done.stdout.splitlines()
    assert heading.split()[:2] == [FACE, "onnxruntime-fp32"] and heading.endswith("does not answer as it did: post")
    verdicts = {line.split()[0]: line.split()[-1] for line in lines}
    assert verdicts == {"answer": "differs", "pre": "ok", "network": "ok", "post": "differs"}
