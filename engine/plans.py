"""TensorRT plans that are built while the model answers from ONNX Runtime: one at a time, each a process of its own."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tritonvision import machine, plans
from tritonvision.commands import command, failure
from tritonvision.engine.processes import end, running
from tritonvision.errors import SetupError
from tritonvision.publication import Manifest
from tritonvision.variants import Variant

log = logging.getLogger(__name__)

Command = Callable[..., list[str]]


@dataclass(frozen=True)
class PlanBuild:
    """How far the plans of a model are.

    Attributes:
        state: ``waiting``, ``building``, ``built`` or ``failed``.
        phase: of TensorRT's builder.
        done: part of that phase, 0 to 1.
        why: of a build that failed: a sentence.
    """

    variant: str
    state: str = "waiting"
    phase: str = ""
    done: float = 0.0
    why: str = ""

    def sentence(self) -> str:
        """For people, after the reason why the plan that is there does not serve."""
        if self.state == "failed":
            return f"Building one for this machine failed: {self.why}"
        return "One for this machine is being built; ONNX Runtime answers meanwhile."


class PlanBuilds:
    """Which plans are being built, have been, or could not be.

    Args:
        root: the model repository.
        run: gives the command line that runs ``tritonvision`` with the arguments it is called with.
    """

    def __init__(self, root: Path, run: Command = command):
        self._root, self._run = root, run
        self._turn = asyncio.Semaphore(1)  # a build has the GPU's clock and memory to itself, as far as we can tell
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._builds: dict[str, PlanBuild] = {}
        self._of: dict[str, Manifest] = {}  # what was published when a build began: a new publication is tried anew

    @property
    def builds(self) -> Mapping[str, PlanBuild]:
        """How far each is, by id of the model; of the last one of each."""
        return dict(self._builds)

    def require(self, manifest: Manifest, variant: Variant) -> None:
        """Return where the plans of ``variant`` were built for this machine; else let them be built.

        Raises:
            SetupError: they were not; the sentence says why not, and how far their building is.
        """
        gpu = machine.gpu()
        if gpu is None:
            raise SetupError("No NVIDIA GPU is to be seen on this machine.")
        why = plans.missing(self._root, manifest, variant.name, gpu, _tensorrt())
        if why:
            raise SetupError(f"{why} {self._begun(manifest, variant).sentence()}")

    async def close(self) -> None:
        """End what still runs; an unfinished build changes nothing."""
        await end(self._tasks.values())

    def _begun(self, manifest: Manifest, variant: Variant) -> PlanBuild:
        """The build of these plans; it is begun unless it is under way or has failed for this publication."""
        known = self._builds.get(manifest.id)
        if known is not None and known.variant == variant.name:
            if manifest.id in self._tasks or (known.state == "failed" and self._of[manifest.id] is manifest):
                return known
        if manifest.id in self._tasks:  # of another variant, which nobody wants any more
            self._tasks[manifest.id].cancel()
        begun = self._builds[manifest.id] = PlanBuild(variant.name)
        self._of[manifest.id] = manifest
        task = self._tasks[manifest.id] = asyncio.create_task(self._build(manifest.id, variant.name))
        task.add_done_callback(lambda done: self._tasks.get(manifest.id) is done and self._tasks.pop(manifest.id))
        return begun

    async def _build(self, model_id: str, name: str) -> None:
        async with self._turn:
            self._now(model_id, state="building")
            log.info("%s: plans of %s are being built.", model_id, name)
            how = "--variant", name, "--repository", str(self._root), "--progress"
            try:
                async with running(self._run("plan", "build", model_id, *how), asyncio.subprocess.PIPE) as process:
                    assert process.stdout is not None and process.stderr is not None
                    said, _ = await asyncio.gather(process.stderr.read(), self._follow(model_id, process.stdout))
                    await process.wait()
            except SetupError as lack:
                self._now(model_id, state="failed", why=lack.message)
                return
        if process.returncode:
            error = failure(process.returncode, said.decode("utf-8", "replace"))
            self._now(model_id, state="failed", why=error.message)
            log.error("%s: plans of %s could not be built: %s", model_id, name, error.message)
        else:
            self._now(model_id, state="built", done=1.0)
            log.info("%s: plans of %s are built.", model_id, name)

    async def _follow(self, model_id: str, lines: asyncio.StreamReader) -> None:
        """Take the progress from the lines that the build writes; what else it writes is left out."""
        while True:
            try:
                line = await lines.readline()
            except ValueError:  # longer than the reader takes, so none of ours
                continue
            if not line:
                return
            try:
                told = json.loads(line)
                phase, done = str(told["phase"]), float(told["done"])
            except (ValueError, TypeError, KeyError):
                continue
            before = self._builds[model_id]
            self._now(model_id, phase=phase, done=done)
            if phase != before.phase or int(done * 4) > int(before.done * 4):
                log.info("%s: %s, %.0f %%", model_id, phase.lower(), 100 * done)

    def _now(self, model_id: str, **changes) -> None:
        self._builds[model_id] = replace(self._builds[model_id], **changes)


def _tensorrt() -> str:
    """The version of TensorRT that Triton has here, as far as its Python package tells; empty without that."""
    try:
        return importlib.metadata.version("tensorrt")
    except importlib.metadata.PackageNotFoundError:
        return ""
