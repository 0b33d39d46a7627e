"""Exports that requests set off: one at a time, so many in a row, and in the words of the command when they fail."""

from __future__ import annotations

import asyncio
import sys

import pytest

from tritonvision.engine import export_runner
from tritonvision.engine.export_runner import Exports
from tritonvision.engine.published import Published
from tritonvision.errors import BrokenModel, ModelLoading, Overloaded, UnknownModel
from tritonvision.publication import Repository
from tritonvision.settings import Settings

# Notes its id and waits for a file, as an export would for its weights.
SLOW = """
import pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
(folder / sys.argv[2]).touch()
while not (folder / "go").exists(): time.sleep(0.01)
"""


@pytest.fixture
def slow(monkeypatch, tmp_path):
    def command(_, model, *more):
        (tmp_path / f"{model}.begun").touch()
        return [sys.executable, "-c", SLOW, str(tmp_path), model]

    monkeypatch.setattr(export_runner, "command", command)
    return tmp_path


async def until(condition) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def test_one_runs_the_others_wait_and_too_many_are_refused(slow):
    async def main():
        exports = Exports(Settings(repository=slow))
        for i in range(9):
            with pytest.raises(ModelLoading, match="is being exported" if i == 0 else "waits to be exported"):
                exports.begin(f"m{i}")
        with pytest.raises(Overloaded, match="8 exports wait"):
            exports.begin("m9")
        with pytest.raises(ModelLoading):  # one that waits already may be asked for again
            exports.begin("m8")
        await until(lambda: (slow / "m0").exists())
        assert not (slow / "m1").exists()
        (slow / "go").touch()
        await until(lambda: (slow / "m8").exists())
        await exports.close()

    asyncio.run(main())


def test_closing_ends_what_runs_and_what_waits(slow):
    async def main():
        exports = Exports(Settings(repository=slow))
        for model in ("a", "b"):
            with pytest.raises(ModelLoading):
                exports.begin(model)
        await until(lambda: (slow / "a").exists())
        await exports.close()
        assert len(asyncio.all_tasks()) == 1 and not (slow / "b.begun").exists()

    asyncio.run(main())


def test_closing_while_an_export_ends_is_no_failure(tmp_path, monkeypatch):
    class Ended:
        """A process that has ended, which nobody has read to its end yet."""

        async def communicate(self):
            await asyncio.Event().wait()

        def kill(self):
            raise ProcessLookupError

        async def wait(self):
            return 0

    async def begin(*_, **__):
        return Ended()

    async def main():
        monkeypatch.setattr(asyncio, "create_subprocess_exec", begin)
        exports = Exports(Settings(repository=tmp_path))
        with pytest.raises(ModelLoading):
            exports.begin("a")
        await asyncio.sleep(0.01)
        await exports.close()

    asyncio.run(main())


def test_a_failure_is_told_in_the_words_of_the_export(tmp_path):
    async def main():
        exports = Exports(Settings(repository=tmp_path))
        with pytest.raises(ModelLoading):
            exports.begin("yolonass-640")  # in the catalogue, and not to be exported
        await until(lambda: "yolonass-640" in exports._failed)
        with pytest.raises(UnknownModel) as caught:
            exports.begin("yolonass-640")
        assert "YOLO-NAS" in caught.value.message and "Error:" not in caught.value.message

    asyncio.run(main())


def test_what_is_published_and_cannot_be_read_is_not_replaced_by_a_request(slow):
    async def main():
        exports = Exports(Settings(repository=slow))
        published = Published(Repository(slow), None, exports)
        (slow / "resnet18").mkdir()
        (slow / "resnet18" / "manifest.json").write_text("{}")
        with pytest.raises(BrokenModel, match="The folder 'resnet18' holds"):
            published.resolve("resnet18")
        with pytest.raises(ModelLoading):
            published.resolve("resnet152")
        await until(lambda: (slow / "resnet152").exists())
        await exports.close()

    asyncio.run(main())


def test_an_export_whose_process_cannot_be_started_has_failed_and_is_not_begun_again_at_every_request(
    monkeypatch, tmp_path
):
    monkeypatch.setattr(export_runner, "command", lambda *_: [str(tmp_path / "nothing")])

    async def main():
        exports = Exports(Settings(repository=tmp_path))
        with pytest.raises(ModelLoading):
            exports.begin("a")
        await until(lambda: not exports._wanted)
        with pytest.raises(UnknownModel, match="No process can be started for it: No such file"):
            exports.begin("a")
        await exports.close()

    asyncio.run(main())
