"""Asks a loaded model the golden questions that it was published with, and finds the stage that answers otherwise.

The entry points are asked first, at once as often as a model's narrowest part has processes: each has answered before
the first caller comes, who waits for no first run. One over networks that have answered so for another is asked once.
Only where an answer drifts past its bar are the stages behind it asked, each on its own recorded inputs. The questions
go past the models' queues: callers come later.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import grpc
import numpy as np

from tritonvision import golden
from tritonvision.engine import codec, failures
from tritonvision.engine.model_queue import processes_of_narrowest
from tritonvision.engine.triton_calls import TritonCalls
from tritonvision.errors import BrokenModel, DeadlineExceeded
from tritonvision.golden import ANSWER, LABELS, Figures, Golden, Question, Stage
from tritonvision.publication import Manifest
from tritonvision.results import Delta
from tritonvision.tasks import TRACKING
from tritonvision.variants import Variant

log = logging.getLogger(__name__)

_AT_ONCE = 2  # questions at the same time: the cores are shared with those who are served


@dataclass(frozen=True)
class Verdict:
    """Whether a model answers as it did when it was published.

    Attributes:
        variant: what was asked: the name of the variant that ran.
        figures: of each entry point's stages, by role; only of those that were asked.
        blamed: the stage that differs, empty where the model passes.
        why: what of it differs, in words.
        asked: whether there was anything to ask.
    """

    model_id: str
    variant: str
    figures: Mapping[str, tuple[Figures, ...]] = field(default_factory=dict)
    blamed: str = ""
    why: str = ""
    asked: bool = True

    @property
    def passed(self) -> bool:
        """Whether the model may serve."""
        return not self.blamed

    def to_dict(self) -> dict[str, Any]:
        """For JSON and tables. What is no number, or infinite, is None."""
        stages = [
            {
                "entry_point": role, "stage": one.stage, "model": one.model, "passed": one.passed, "why": one.why,
                "found": {name: value if math.isfinite(value) else None for name, value in one.found.items()},
                "bars": {name: one.bars[name] for name in one.found},
            }
            for role, figures in self.figures.items()
            for one in figures
        ]  # fmt: skip
        return {
            "model_id": self.model_id, "variant": self.variant, "asked": self.asked, "passed": self.passed,
            "differs": self.blamed, "why": self.why, "stages": stages,
        }  # fmt: skip

    def refusal(self) -> BrokenModel:
        """The error of those who ask for a model that does not pass."""
        differ = "differ" if self.blamed == LABELS else "differs"
        return BrokenModel(
            f"'{self.model_id}' does not answer as it did when it was published: its {self.blamed} {differ}.",
            hint=f"'tritonvision verify {self.model_id}' shows every stage; publish it again with --force.",
        )


class GoldenCheck:
    """Asks the models of one tritonserver.

    Args:
        root: the model repository.
        deadline: seconds one answer may take.
        threads: for the reading and comparing; the default ones may be busy with pictures.
        instances: processes of a loaded Triton model, by its name.
        loses: for a Triton model, a function that tells whether a process of it was lost since then.
        load_steps: loads the steps of a model that run in the processes of its network, so that they can be asked.
    """

    def __init__(
        self, client: TritonCalls, root: Path, deadline: float, threads: Executor,
        instances: Callable[[str], int], loses: Callable[[str], Callable[[], bool]],
        load_steps: Callable[[Manifest], Awaitable[None]],
    ):  # fmt: skip
        self._client, self._root, self._deadline, self._threads = client, root, deadline, threads
        self._instances, self._loses, self._load_steps = instances, loses, load_steps

    async def ask(self, manifest: Manifest, variant: Variant | None = None, every_stage: bool = False) -> Verdict:
        """Ask a model that Triton has loaded.

        Args:
            variant: which of its variants runs; None for the graphs as they were exported.
            every_stage: whether to ask the stages though the answers are right.

        Raises:
            BrokenModel: the golden questions cannot be read.
            ServerUnavailable: the server went meanwhile.
        """
        name = variant.name if variant else manifest.base_variant
        questions = golden.read(self._root, manifest)
        if questions is None:
            return Verdict(manifest.id, name, asked=False)
        labels = golden.check_facts(questions, manifest)
        if not labels.passed:
            return Verdict(manifest.id, name, {"": (labels,)}, LABELS, labels.why)
        exact = (variant.precision if variant else manifest.precision) == "fp32"
        found: dict[str, tuple[Figures, ...]] = {}
        blamed = why = ""
        processes, warm = processes_of_narrowest(manifest, self._instances), set[str]()
        for question in questions.questions:
            measured = variant.golden.get(question.role, {}) if variant else {}
            networks = {stage.model for stage in question.stages if _is_network(stage.name)} or {question.role}
            times = processes if networks - warm else 1
            warm |= networks
            figures = await self._ask_entry_point(manifest, questions, question, exact, measured, every_stage, times)
            found[question.role] = figures
            if not blamed:
                blamed, why = _blame(figures, exact)
        verdict = Verdict(manifest.id, name, found, blamed, why)
        if blamed:
            log.error("%s (%s) is not served: its %s differs from what was published: %s.",
                      manifest.id, name, blamed, why)  # fmt: skip
        return verdict

    async def _ask_entry_point(
        self, manifest: Manifest, questions: Golden, question: Question, exact: bool, measured: Mapping[str, float],
        every_stage: bool, times: int,
    ) -> tuple[Figures, ...]:  # fmt: skip
        public = f"{manifest.triton_name}--{question.role}" if question.role else manifest.triton_name
        answer, *stages = question.stages

        async def ask_all() -> Figures:
            alone = codec.a_whole_one() if manifest.task == TRACKING.name else None
            return await self._ask_stage(questions, answer, public, exact, measured, alone)

        answers = await asyncio.gather(*(ask_all() for _ in range(times)))
        figures = [next((one for one in answers if not one.passed), answers[0])]
        if figures[0].passed and not every_stage:
            return tuple(figures)
        await self._load_steps(manifest)
        gate = asyncio.Semaphore(_AT_ONCE)

        async def ask(stage: Stage) -> Figures:
            async with gate:
                # pre and post steps compute the same whatever the network's precision
                return await self._ask_stage(questions, stage, stage.model, exact or not _is_network(stage.name))

        return (*figures, *await asyncio.gather(*map(ask, stages)))

    async def _ask_stage(
        self, questions: Golden, stage: Stage, model: str, exact: bool,
        measured: Mapping[str, float] = MappingProxyType({}), sequence: codec.SequenceStep | None = None,
    ) -> Figures:  # fmt: skip
        loop = asyncio.get_running_loop()
        inputs, wanted = await loop.run_in_executor(self._threads, questions.load, stage)
        try:
            if stage.decoupled:
                got = await self._written(model, inputs)
            else:
                got = await self._client.tensors(model, inputs, list(wanted), self._deadline, sequence)
        except grpc.RpcError as error:
            if failures.lost_process(error):
                raise failures.to_error(error) from error
            log.warning("The golden question to %s failed: %s", model, error.details())
            return Figures(stage.name, model, failure=failures.to_error(error).message)
        except TimeoutError:  # of an answer that comes in pieces
            return Figures(stage.name, model, failure=DeadlineExceeded.sentence)
        figures = await loop.run_in_executor(self._threads, stage.compare, got, wanted, exact, measured)
        return replace(figures, model=model)

    async def _written(self, model: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The whole answer of a model that writes, as its last response would have it."""
        pieces: list[Delta] = []
        request = codec.encode_tensors(model, inputs)
        async with aclosing(self._client.stream(request, self._deadline, self._loses(model))) as stream:
            async for delta in stream:
                pieces.append(delta)
        if not pieces:
            return {}
        return {
            "token_ids": np.concatenate([delta.token_ids for delta in pieces]),
            "text": golden.strings(["".join(delta.text for delta in pieces).encode()], (1,)),
            "finish_reason": golden.strings([pieces[-1].finish_reason.encode()], (1,)),
            "usage": np.array(pieces[-1].usage, dtype=np.int32),
        }


def _is_network(stage: str) -> bool:
    return stage.startswith("network")


def _blame(figures: tuple[Figures, ...], exact: bool) -> tuple[str, str]:
    """The stage that differs and why, or nothing where the model may serve.

    The first stage past its bar. Where every stage is within its own and only the whole is not, another processor's pre
    step rounds some pixels the other way, which is no fault; unless there is no pre step that could.
    """
    answer, *stages = figures
    # the networks of a reduced precision are judged by the answers alone
    judged = [stage for stage in stages if exact or not _is_network(stage.stage)]
    over = next((stage for stage in judged if not stage.passed), None)
    if over is not None:
        return over.stage, over.why
    if answer.passed:
        return "", ""
    if len(judged) < len(stages):
        return "network", answer.why
    if any(stage.stage == "pre" and any(stage.found.values()) for stage in stages) and not answer.failure:
        log.warning("The pre step rounds some pixels otherwise than where the model was published: %s.", answer.why)
        return "", ""
    return ANSWER, answer.why
