"""How a model's networks run best on this machine: what can be tried, and a server of its own to try it on."""

from __future__ import annotations

import asyncio
import itertools
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2
from tritonclient.utils import InferenceServerException

from tritonvision import machine, tasks
from tritonvision.ensembles import model_configs, published
from tritonvision.ensembles.entry_points import EntryPoint, LocalCode, Net
from tritonvision.errors import NotSupported, TritonVisionError
from tritonvision.exporters import publish
from tritonvision.exporters.variants import folders
from tritonvision.exporters.variants.load import Callers
from tritonvision.exporters.variants.search import Found, Look, search
from tritonvision.publication import Manifest, Repository
from tritonvision.server import Embedded
from tritonvision.server.locate import locate
from tritonvision.server.process import native_engines
from tritonvision.settings import Settings
from tritonvision.tuning import THREADS, Tuning
from tritonvision.variants import OFFERED, variant_name

log = logging.getLogger(__name__)

CALLERS = 4
_DELAYS = (0.0, 1.0, 2.0)
_WARM_UP = 2  # requests a changed model answers before it is looked at
_LEAST = 0.4  # seconds that a look measures, however long the change took
# Shares of a look: a single caller, several, and Poisson arrivals where they are tried.
_SHARES = {False: (0.35, 0.65, 0.0), True: (0.2, 0.3, 0.5)}
_ARRIVALS, _LONGEST = 10, 20.0  # arrivals that a p99 needs at least, and the seconds that are waited for them at most
_TRIAL = "trial"


@dataclass(frozen=True)
class Trial:
    """One way to run the networks of a model.

    Attributes:
        variant: name of the variant.
        instances, threads, delay: see :class:`~tritonvision.tuning.Tuning`.
    """

    variant: str
    instances: int
    threads: int
    delay: float = 0.0


@dataclass(frozen=True)
class Plan:
    """What is tried of a model.

    Attributes:
        networks: of its main entry point: those that a setting changes.
        trials: all of them, without ``today`` where that is none of them.
        today: how it runs now.
        notes: what is not tried, and why, a sentence each.
    """

    manifest: Manifest
    point: EntryPoint
    networks: tuple[Net, ...]
    trials: tuple[Trial, ...]
    today: Trial
    notes: tuple[str, ...]


def plan(settings: Settings, model_id: str) -> Plan:
    """What can be tried of a published model on this machine.

    Raises:
        UnknownModel: nothing of that name is published.
        NotSupported: it has no networks of which processes and threads can be chosen.
        SetupError: there is no tritonserver.
    """
    manifest = Repository(settings.repository).resolve(model_id)
    if manifest.task == tasks.VLM.name or manifest.backend == "custom":
        raise _nothing_to_tune(manifest)
    point = published.entry_points_of(settings.repository, manifest)[0]
    if model_configs.embedded(point) or isinstance(point, LocalCode) or not point.nets:
        raise _nothing_to_tune(manifest)
    names, notes = _variants(manifest)
    delays = _DELAYS if min(net.max_batch for net in point.nets) > 1 else (0.0,)
    if not native_engines(locate(settings)):
        delays = (0.0,)
        notes = (*notes, "No batching delay is tried: this server's engines run each request by itself.")
    trials = tuple(
        Trial(name, *shape)
        for name in names
        for shape in itertools.product(*_shapes(name), delays)
        if shape[0] * shape[1] <= 2 * machine.cores()  # more threads only get in each other's way
    )
    return Plan(manifest, point, point.nets, trials, _today(settings.repository, manifest, point.nets[0]), notes)


def run(
    settings: Settings, planned: Plan, seconds: float, p99: float | None,
    told: Callable[[Trial, Look | None], None] = lambda trial, look: None,
) -> Found[Trial]:  # fmt: skip
    """Try them on a server of its own; the repository, and a server that runs over it, stay as they are.

    Args:
        seconds: about how long.
        p99: milliseconds, see :func:`~tritonvision.exporters.variants.search.search`.
        told: of each look when it is done.

    Raises:
        SetupError: the repository cannot be written, or the server cannot be started.
        BrokenModel, ServerUnavailable: the model cannot be loaded.
    """
    trials = list(planned.trials)
    if planned.today not in trials:
        trials.insert(0, planned.today)
    with publish.staging(settings.repository) as folder, bench(settings, planned, folder / "models") as opened:

        def measure(trial: Trial, share: float, rate: float | None) -> Look | None:
            look = opened.look(trial, share, rate)
            told(trial, look)
            return look

        return search(trials, measure, seconds, p99, planned.today)


def tuning_of(repository: Path, planned: Plan, trial: Trial, look: Look) -> tuple[str, Tuning]:
    """The variant that is to serve (empty: as exported) and its tuning, as the manifest tells them."""
    manifest = planned.manifest
    variant = next((v for v in manifest.variants if v.name == trial.variant), None)
    point = planned.point if variant is None else published.as_variant(planned.point, variant)
    graph_bytes = (variant.graph_bytes if variant else 0) or manifest.graph_bytes
    more = sum(trial.instances - net.instances for net in planned.networks)
    for net in point.nets:
        file = repository / model_configs.graph_path(manifest.triton_name, point, net)
        size = sum(path.stat().st_size for path in file.parent.glob(f"{file.stem}.*"))
        graph_bytes += (trial.instances - net.instances) * size
    figures = {"per_second": round(look.per_second, 2), "p50": round(look.p50, 2)}
    figures |= {} if look.p99 is None else {"p99": round(look.p99, 2)}
    return "" if variant is None else variant.name, Tuning(
        tuple(net.role for net in planned.networks), trial.instances, trial.threads, trial.delay,
        machine.cpu_name(), machine.cores(), graph_bytes=max(graph_bytes, 0),
        processes=max(manifest.processes + more, 0), figures=figures,
    )  # fmt: skip


class Bench:
    """A running server over a linked copy of one model, as :func:`bench` gives it."""

    def __init__(self, server: Embedded, repository: Path, planned: Plan, runner: asyncio.Runner):
        self._server, self._repository, self._planned, self._runner = server, repository, planned, runner
        self._on: Trial | None = None
        manifest = planned.manifest
        self._callers = runner.run(_callers(server.address, manifest.triton_name, manifest.task))

    def close(self) -> None:
        """Let the callers go."""
        self._runner.run(self._callers.close())

    def look(self, trial: Trial, seconds: float, rate: float | None) -> Look | None:
        """Change over to a trial and measure it, ``seconds`` together; None where it does not run."""
        began = time.perf_counter()
        try:
            with _uncut():
                self._put(trial)
            self._runner.run(self._callers.ask(_WARM_UP))
        except (TritonVisionError, InferenceServerException) as error:
            log.warning("%s does not run: %s", trial, getattr(error, "message", error))
            return None
        left = max(seconds - (time.perf_counter() - began), _LEAST)
        single, several, arrivals = (share * left for share in _SHARES[rate is not None])
        alone = self._runner.run(self._callers.closed_loop(1, single))
        crowd = self._runner.run(self._callers.closed_loop(CALLERS, several))
        tail = None if rate is None else self._tail(rate, arrivals)
        return Look(crowd.per_second, alone.percentile(0.5), tail, left)

    def _tail(self, rate: float, seconds: float) -> float | None:
        """The p99 of Poisson arrivals; None where none came."""
        if not rate:  # nothing was answered so far
            return None
        seconds = max(seconds, min(_ARRIVALS / rate, _LONGEST))
        window = self._runner.run(self._callers.poisson(rate, seconds))
        return window.percentile(0.99) if window.milliseconds or window.failures else None

    def _put(self, trial: Trial) -> None:
        if trial == self._on:
            return
        self._on = None
        name = self._planned.manifest.triton_name
        for net in self._planned.networks:
            model = model_configs.net_name(name, net.role)
            folder = self._repository / model
            config = _config_of(folder, trial.variant)
            changed = folders.tuned_config(config, trial.instances, trial.threads, trial.delay)
            folders.write(folder / published.CONFIGS / f"{_TRIAL}.pbtxt", changed)
            self._server.load(model, _TRIAL)
        self._on = trial


@contextmanager
def bench(settings: Settings, planned: Plan, copy: Path) -> Iterator[Bench]:
    """A server of its own over the folder ``copy``, which is filled with the model of the plan.

    Raises SetupError, BrokenModel, ServerUnavailable: as :func:`run`.
    """
    manifests = _with_needs(settings.repository, planned.manifest)
    for manifest in manifests:
        for name in (*manifest.steps, *manifest.triton_names):
            folders.link(settings.repository / name, copy / name, ())
    server = Embedded(settings.model_copy(update={"repository": copy, "port": 0}))
    try:
        with _uncut():
            server.start()
            for manifest in manifests:
                for name in (*manifest.steps, *manifest.triton_names):
                    server.load(name, machine.config_name(manifest, machine.choice(manifest).variant))
        with asyncio.Runner() as runner:
            opened = Bench(server, copy, planned, runner)
            try:
                yield opened
            finally:
                with _uncut():
                    opened.close()
    finally:
        with _uncut():
            server.stop()


@contextmanager
def _uncut() -> Iterator[None]:
    """Around what waits for the server's threads, which may hold a lock then: Ctrl-C counts when the block ends."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: asked.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if asked:
        raise KeyboardInterrupt


def _with_needs(repository: Path, manifest: Manifest) -> list[Manifest]:
    """The models that one asks, each after what it needs, and itself at the end."""
    known = Repository(repository)
    needed = [other for need in manifest.needs for other in _with_needs(repository, known.resolve(need))]
    return [*needed, manifest]


async def _callers(*arguments: str) -> Callers:
    return Callers(*arguments)


def _variants(manifest: Manifest) -> tuple[list[str], tuple[str, ...]]:
    """Names of those that run here, and a sentence about each that would, if it were published."""
    names, notes = [manifest.base_variant], []
    for variant in manifest.variants:
        why = machine.why_not(variant.engine, variant.precision)
        if why:
            notes.append(f"{variant.name} is not tried: {why}")
        else:
            names.append(variant.name)
    known = {manifest.base_variant, *(variant_name(v.engine, v.precision) for v in manifest.variants)}
    offered = ((engine, precision) for engine, precisions in OFFERED.items() for precision in precisions)
    missing = [variant_name(*one) for one in offered if variant_name(*one) not in known and not machine.why_not(*one)]
    if missing:
        notes.append(
            f"Not tried, because not published: {', '.join(missing)}. "
            f"One is added with: tritonvision variants add {manifest.id} --engine E --precision P"
        )
    return names, tuple(notes)


def _shapes(variant: str) -> tuple[Sequence[int], Sequence[int]]:
    """Processes and threads to try: powers of two up to the cores, and the cores."""
    counts = sorted({2**i for i in range(machine.cores().bit_length()) if 2**i <= machine.cores()} | {machine.cores()})
    return counts, counts if variant.partition("-")[0] in THREADS else (0,)


def _today(repository: Path, manifest: Manifest, net: Net) -> Trial:
    """How the first network runs now."""
    choice, tuning = machine.choice(manifest), machine.tuning_here(manifest)
    name = choice.variant.name if choice.variant else manifest.base_variant
    if tuning is not None:
        return Trial(name, tuning.instances, tuning.threads, tuning.delay)
    folder = repository / model_configs.net_name(manifest.triton_name, net.role)
    config = text_format.Parse(_config_of(folder, name), model_config_pb2.ModelConfig())
    threads = config.parameters[THREADS.get(config.backend, "")].string_value or "0"
    delay = config.dynamic_batching.max_queue_delay_microseconds / 1000
    return Trial(name, config.instance_group[0].count, int(threads), delay)


def _config_of(folder: Path, variant: str) -> str:
    """The config of a network as a variant runs it, untuned."""
    chosen = folder / published.CONFIGS / f"{variant}.pbtxt"
    return (chosen if chosen.is_file() else folder / "config.pbtxt").read_text(encoding="utf-8")


def _nothing_to_tune(manifest: Manifest) -> NotSupported:
    return NotSupported(
        f"There is nothing to tune about '{manifest.id}': its networks run in processes of its own, which are not "
        "set up this way."
    )
