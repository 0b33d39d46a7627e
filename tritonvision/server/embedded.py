"""The tritonserver we start, and its supervisor, which replaces processes that die or hang while the others serve."""

from __future__ import annotations

import compileall
import contextlib
import logging
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait

from tritonvision import heartbeat
from tritonvision.errors import ServerUnavailable, SetupError, TritonVisionError
from tritonvision.queue_policy import bounded_config
from tritonvision.server import run_folder, stubs, walls
from tritonvision.server.control import processes_of
from tritonvision.server.ends import Ends
from tritonvision.server.locate import locate
from tritonvision.server.process import TritonProcess, address_in, native_engines
from tritonvision.server.restarts import LONGEST_WAIT, Restarts
from tritonvision.server.run_folder import RunFolder
from tritonvision.server.stubs import Stub
from tritonvision.settings import Settings

log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
_SEEN_SECONDS = 10.0  # a load waits until its processes are watched: milliseconds, unless there is a healing
_HEAL_ATTEMPTS, _HEAL_AGAIN = 3, 3.0  # seconds after attempts that failed while a restart would have made it worse
# Seconds a process may finish its work after its successors have started. Mostly Triton stops it earlier.
_RETIREMENT = 10.0


class Embedded:
    """One tritonserver and everything below it, from start to stop.

    A single thread starts the server (which is killed with that thread, so with this process), is woken when it or one
    of its Python stubs ends, finds a stub without heartbeat within seconds, and swaps its model.

    Attributes:
        address: gRPC ``unix:PATH`` of a socket that only this user reaches, the same after a restart.
        version: of the server.
        deaths: stubs that ended unexpectedly so far.
        starts: of the server so far, the first included.
        own_backends: whether networks run on our Python backends, not on Triton's own.
        configs: what loaded models run with in place of their ``config.pbtxt``, as JSON, or None.
        confined: whether its server is put behind walls; not with code of a user's own, nor where settings say so.
        failure: why the server is not running while its next start has to wait; None otherwise.
    """

    def __init__(self, settings: Settings):
        self._settings = settings
        self._installation = locate(settings)
        self._run_folder = RunFolder()
        self.address = address_in(self._run_folder.path)
        self.version = self._installation.version
        self.deaths = self.starts = 0
        self.failure: TritonVisionError | None = None
        self.own_backends = not native_engines(self._installation)
        self.confined = settings.sandbox
        self._deaths_of: Counter[str] = Counter()
        self._instances: dict[str, int] = {}  # loaded models and how many stubs each should have
        self.configs: dict[str, str | None] = {}
        self._stubs: dict[int, Stub] = {}
        self._retired: dict[int, float] = {}  # processes whose successors have started, and when
        self._unhealed: dict[str, float] = {}  # models that miss a process, and when to try again
        self._generation, self._started_at, self._restarts = 0, 0.0, Restarts()
        self._sick = self._started = self._stopping = False
        self._looks, self._looking = list[Future[None]](), list[Future[None]]()  # checks asked for, and begun
        self._changed = threading.Condition()
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._process: TritonProcess | None = None
        self._ends = Ends()
        self._thread = threading.Thread(target=self._run, name="tritonserver-supervisor", daemon=True)

    def start(self) -> None:
        """Start the server and return once it answers. Raises SetupError."""
        try:
            self._settings.repository.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            told = f"The model repository {self._settings.repository} cannot be made: {error.strerror}."
            raise SetupError(told, hint="Name another folder with --repository DIR.") from error
        self._thread.start()
        with self._changed:
            self._changed.wait_for(lambda: self._started or self.failure)
        if self.failure:
            raise self.failure

    def stop(self) -> None:
        """End the server and remove what it leaves in shared memory. Idempotent."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._ends.wake()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()
        self._run_folder.remove()

    @property
    def pid(self) -> int:
        """Process id of the tritonserver."""
        return self._running().pid

    def processes(self) -> list[Stub]:
        """The Python processes that serve, without those being replaced."""
        return [stub for pid, stub in self._living().items() if pid not in self._retired]

    def healthy(self) -> bool:
        """Whether the server runs and no part of it is being replaced."""
        return self.failure is None and not self._stopping and not self._sick and self._process is not None

    def walls(self) -> list[str]:
        """The walls around the server that hold, see :mod:`tritonvision.server.sandbox`."""
        return self._running().walls

    def loses(self, model: str) -> Callable[[], bool]:
        """A function that tells whether a stub of a Triton model ended unexpectedly since this call."""
        before = self._deaths_of[model]
        return lambda: self._deaths_of[model] > before

    def whole(self, model: str) -> bool:
        """Whether every process that serves a loaded Triton model is there, and the server with them."""
        runs = self.failure is None and not self._stopping and self._process is not None
        return runs and self._present(model) >= self.instances(model)

    def step_reports(self) -> bytes:
        """What steps told of single requests since the last call, see :mod:`tritonvision.step_reports`."""
        process = self._process
        return b"" if process is None else process.steps.read()

    def instances(self, model: str) -> int:
        """Processes that serve a loaded Triton model: none for an ensemble."""
        return self._instances.get(model, 0)

    def load(self, model: str, config_name: str = "", config: str | None = None) -> None:
        """Load one Triton model, or load it again where its files changed. Raises ServerUnavailable and others.

        Args:
            config_name: of the config that it runs with; where it has none of that name, its ``config.pbtxt``.
            config: that it runs with instead, as JSON.
        """
        folder = self._settings.repository / model
        config = config or bounded_config(folder, config_name, always=self.configs.get(model) is not None)
        if self.confined and walls.is_own_code(folder):
            log.warning("%s is code of your own, so the inference server is started again without its walls.", model)
            self.confined = False
            self.wait_healed(LONGEST_WAIT)
        for path in folder.glob("*/model.py"):
            # The stub would write it, and Triton would take that for a change of the model and reload it at every load.
            compileall.compile_file(path, quiet=2)
        with self._locks[model]:
            process = self._running()
            control = process.control
            try:
                with self._succession(model):
                    control.load(model, config)
            except ServerUnavailable:
                log.error("%s could not be loaded. %s", model, process.log_hint)  # no file names in errors for callers
                raise
            running = control.config(model)
            self._instances[model] = processes_of(running)
            self.configs[model] = config
        for step in {step.model_name for step in running.ensemble_scheduling.step}:
            # Triton has also loaded missing dependencies, which only this check finds.
            with self._locks[step], contextlib.suppress(TritonVisionError):
                self._instances[step] = processes_of(control.config(step))
        self.wait_healed(_SEEN_SECONDS)  # a process that ended before it was seen would not be replaced

    def unload(self, model: str) -> None:
        """Unload one Triton model; its processes are not replaced any more. Not loaded: nothing happens."""
        with self._locks[model]:
            self.configs.pop(model, None)
            if self._instances.pop(model, None) is not None:
                self._running().control.unload(model)
                # Triton never ends those of a model of which one died at work; the others may still answer
                self._retire(self._pids(model), self._settings.deadline)

    def healing(self) -> Future[None]:
        """A future, done after a check of all processes that begins after this call, and the healing it causes.

        While the next start of the server has to wait, see ``failure``, it is done at once.
        """
        look: Future[None] = Future()
        with self._changed:
            self._looks.append(look)
            if self.failure is not None:
                self._answer_all()
        self._ends.wake()
        return look

    def wait_healed(self, timeout: float) -> bool:
        """Wait for :meth:`healing`; False when it takes longer."""
        return bool(wait([self.healing()], timeout).done)

    def _running(self) -> TritonProcess:
        if self.failure:
            raise self.failure
        if self._process is None:
            raise ServerUnavailable("The inference server is being started.", retry_after=2)
        return self._process

    def _living(self) -> dict[int, Stub]:
        return stubs.of_server(self.pid)

    # ---- the supervisor's thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            stubs.clean_up(run_folder.abandoned())
            self._start_process()
            with self._changed:
                self._started = True
                self._changed.notify_all()
            while not self._stopping:
                with self._changed:
                    self._looking, self._looks = self._looks, []
                self._look()
                self._answer(self._looking)
                while not (self._ends.wait(_LOOK_SECONDS) or self._stopping or self._overdue()):
                    self._end_hanging()
        except TritonVisionError as error:
            log.error("The inference server is lost: %s", error.message)
            self.failure = error
        finally:
            self._end()
            with self._changed:
                if not self._stopping and self.failure is None:  # a bug of ours; Python prints the traceback
                    self.failure = SetupError("The inference server is not watched any more and was ended.")
                self._answer_all()
                self._changed.notify_all()

    def _answer_all(self) -> None:
        self._answer(self._looking)
        self._answer(self._looks)

    def _answer(self, looks: list[Future[None]]) -> None:
        with self._changed:
            for look in looks:
                if look.set_running_or_notify_cancel():
                    look.set_result(None)
            looks.clear()

    def _start_process(self) -> None:
        log_file = self._settings.log_dir / f"tritonserver-{self._settings.port}.log"
        self.confined = self.confined and not walls.holds_own_code(self._settings.repository)
        self._process = TritonProcess(
            self._installation, self._settings.repository, log_file, self._run_folder.path,
            self._settings.kept_prompts, self.confined,
        )  # fmt: skip
        self._beats = heartbeat.Watch(self._process.folder)
        self._watch({})
        self._process.wait_live()
        self.starts += 1
        self._started_at = time.monotonic()
        self.version = self._process.control.version()

    def _end_hanging(self) -> None:
        """Kill processes without heartbeat, and old ones that outstay their successors; their end wakes the loop."""
        overdue = time.monotonic() - _RETIREMENT
        for pid in [pid for pid, since in self._retired.items() if since < overdue and pid in self._stubs]:
            stubs.end(self._stubs[pid])
        for pid in self._beats.stale():
            if pid in self._stubs:
                log.warning("A process of %s hangs and is ended.", self._stubs[pid].model)
                stubs.end(self._stubs[pid])

    def _look(self) -> None:
        """List the processes, and replace missing ones."""
        process = self._running()
        if not process.running() or (process.confined and not self.confined):
            self._restart()
            return
        self._end_hanging()
        living = self._living()
        gone = [stub for pid, stub in self._stubs.items() if pid not in living]
        self._watch(living)
        for stub in gone:
            stubs.forget(process.folder, stub)
        if gone or living.keys() != self._stubs.keys():
            stubs.remember(process.folder, living)
        self._stubs = living
        known = living.keys() | {stub.pid for stub in gone}
        with self._changed:
            self._retired = {pid: since for pid, since in self._retired.items() if pid in known}
        lost = {stub.model for stub in gone if stub.pid not in self._retired}
        for model in lost | self._overdue():
            missing = self.instances(model) - self._present(model)
            self._unhealed.pop(model, None)
            if missing > 0:
                self.deaths += missing * (model in lost)
                self._deaths_of[model] += missing * (model in lost)
                self._heal(model)

    def _present(self, model: str) -> int:
        """Processes that serve ``model`` and are not being replaced, when they were last listed."""
        return sum(stub.model == model and pid not in self._retired for pid, stub in list(self._stubs.items()))

    def _overdue(self) -> set[str]:
        return {model for model, when in self._unhealed.items() if when < time.monotonic()}

    def _watch(self, living: dict[int, Stub]) -> None:
        """Watch the ends of these processes and of the server."""
        self._ends.watch(set(living) if self._process is None else {*living, self._process.pid})

    def _heal(self, model: str) -> None:
        """Swap ``model``; after repeated failures restart the whole server, if that can help."""
        self._sick = True
        started = time.monotonic()
        try:
            for _ in range(_HEAL_ATTEMPTS):
                self._generation += 1
                with contextlib.suppress(TritonVisionError), self._locks[model]:
                    if model not in self._instances:  # unloaded meanwhile
                        return
                    with self._succession(model):
                        self._running().control.swap(model, self._generation)
                    log.warning("%s lost a process; replaced in %.1f s.", model, time.monotonic() - started)
                    return
            published = (self._settings.repository / model / "config.pbtxt").is_file()
            if self._present(model) or not published:  # others serve, and a restart would take them away, too
                log.error("%s lost a process that cannot be replaced now; that is tried again.", model)
                self._unhealed[model] = time.monotonic() + _HEAL_AGAIN
                return
            self._restart()
        finally:
            self._sick = False
            self._ends.wake()  # check again: the swap started new processes

    @contextlib.contextmanager
    def _succession(self, model: str) -> Iterator[None]:
        """Around a load: if it started new processes of ``model``, the former ones are marked as being replaced."""
        before = self._pids(model)
        yield
        if self._pids(model) - before:
            self._retire(before)

    def _pids(self, model: str) -> set[int]:
        return {pid for pid, stub in self._living().items() if stub.model == model}

    def _retire(self, pids: Iterable[int], answer: float = 0.0) -> None:
        """These processes are not replaced any more, and may ``answer`` for so many seconds before they have to end."""
        with self._changed:  # anew, not in place: the supervisor may be reading it
            self._retired = dict.fromkeys(pids, time.monotonic() + answer) | self._retired

    def _restart(self) -> None:
        """Start the server again, with retries, and load what was loaded."""
        self._sick = True
        self._restarts.ended_after(time.monotonic() - self._started_at)
        try:
            while not self._stopping:
                log.error("tritonserver is restarted.")
                self._end(gently=False)
                self._back_off()
                self._restarts.came_back = False
                try:
                    self._start_process()
                except TritonVisionError as error:
                    log.error("tritonserver did not start: %s", error.message)
                    continue
                self._restarts.came_back = all([self._loads_again(model) for model in list(self._instances)])
                return
        finally:
            self._sick = False
            self._ends.wake()

    def _loads_again(self, model: str) -> bool:
        """Load a model into a server that was started again; whether it could."""
        with contextlib.suppress(TritonVisionError):
            self._running().control.load(model, self.configs.get(model))
            return True
        return False

    def _back_off(self) -> None:
        """Wait before a further start; calls in the meantime fail at once where ``failure`` says so."""
        wait = self._restarts.wait()
        if not wait or self._stopping:
            return
        with self._changed:
            if not self._restarts.came_back:
                self.failure = ServerUnavailable(
                    "The inference server ended again and again.", hint="Its log tells why.", retry_after=wait
                )
                self._answer_all()
            self._changed.wait_for(lambda: self._stopping, wait)
            self.failure = None

    def _end(self, gently: bool = True) -> None:
        if self._process is None:
            return
        self._stubs |= stubs.of_server(self._process.pid)
        # A server that lost a stub would use its whole exit timeout, so it is killed.
        self._process.stop(gently and not self.deaths)
        for stub in self._stubs.values():
            stubs.end(stub)
            stubs.forget(self._process.folder, stub)
        self._process, self._stubs = None, {}
        self._watch({})
