"""The tritonserver we own, and its supervisor: what dies or hangs is replaced while the others go on answering."""

from __future__ import annotations

import compileall
import contextlib
import logging
import os
import select
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator

from tritonvision import heartbeat
from tritonvision.errors import SetupError, TritonVisionError
from tritonvision.server import run_folder, stubs
from tritonvision.server.locate import locate
from tritonvision.server.process import TritonProcess, address_in
from tritonvision.server.run_folder import RunFolder
from tritonvision.server.stubs import Stub
from tritonvision.settings import Settings

log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
_HEAL_ATTEMPTS = 3
# Seconds a process may stay on to finish its work after its successors are up. Triton ends it by itself, mostly.
_RETIREMENT = 10.0
_RESTARTS = 3
_RESTART_WINDOW = 120.0


class Embedded:
    """One tritonserver and everything below it, from start to stop.

    A single thread starts the server (which dies with that thread, so with this process), notices at once when it or
    one of its Python stubs ends, sees a stub that stopped beating within seconds, and swaps the model it served.

    Attributes:
        address: gRPC ``unix:PATH`` of a socket that only this user reaches, the same after a restart.
        version: of the server.
        deaths: stubs that ended unasked so far.
    """

    def __init__(self, settings: Settings):
        self._settings = settings
        self._installation = locate(settings)
        self._run_folder = RunFolder()
        self.address = address_in(self._run_folder.path)
        self.version = self._installation.version
        self.deaths = 0
        self._deaths_of: Counter[str] = Counter()
        self._instances: dict[str, int] = {}  # loaded models and how many stubs each should have
        self._stubs: dict[int, Stub] = {}
        self._retired: dict[int, float] = {}  # processes whose successors are up, and since when
        self._pidfds: dict[int, int] = {}  # descriptor -> process id
        self._restarts: list[float] = []
        self._generation = 0
        self._sick = False
        self._failure: TritonVisionError | None = None
        self._started = False
        self._asked = self._answered = 0  # tickets of wait_healed
        self._changed = threading.Condition()
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._stopping = False
        self._process: TritonProcess | None = None
        self._poll = select.poll()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._poll.register(self._wake_read, select.POLLIN)
        self._thread = threading.Thread(target=self._run, name="tritonserver-supervisor", daemon=True)

    def start(self) -> None:
        """Start the server and return once it answers. Raises SetupError."""
        try:
            self._settings.repository.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SetupError(
                f"The model repository {self._settings.repository} cannot be made: {error.strerror}.",
                hint="Name another folder with --repository DIR.",
            ) from error
        self._thread.start()
        with self._changed:
            self._changed.wait_for(lambda: self._started or self._failure)
        if self._failure:
            raise self._failure

    def stop(self) -> None:
        """End the server and remove what it leaves in shared memory. Idempotent."""
        self._stopping = True
        self._wake()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()
        self._run_folder.remove()

    @property
    def pid(self) -> int:
        """Process id of the tritonserver."""
        return self._running().pid

    def processes(self) -> list[Stub]:
        """The Python processes that serve, without those whose successors are up."""
        return [stub for pid, stub in self._living().items() if pid not in self._retired]

    def healthy(self) -> bool:
        """Whether the server runs and nothing of it is being replaced at this moment."""
        return self._failure is None and not self._stopping and not self._sick and self._process is not None

    def deaths_of(self, model: str) -> int:
        """Stubs of one Triton model that ended unasked so far."""
        return self._deaths_of[model]

    def load(self, model: str) -> None:
        """Load one Triton model, or load it again where its files changed. Raises ServerUnavailable and others."""
        for path in (self._settings.repository / model).glob("*/model.py"):
            # The stub would write it, and Triton take that for a change of the model: every next load a reload.
            compileall.compile_file(path, quiet=2)
        with self._locks[model]:
            control = self._running().control
            with self._succession(model):
                control.load(model)
            self._instances[model] = control.instances(model)
        self._wake()

    def unload(self, model: str) -> None:
        """Let one Triton model go; no process of it is missed any more."""
        with self._locks[model]:
            self._instances.pop(model, None)
            self._running().control.unload(model)

    def wait_healed(self, timeout: float) -> bool:
        """Wait for a look at every process that begins after this call, and for the healing it leads to."""
        with self._changed:
            self._asked += 1
            ticket = self._asked
            self._wake()
            return self._changed.wait_for(lambda: self._answered >= ticket or self._failure is not None, timeout)

    def _running(self) -> TritonProcess:
        if self._failure:
            raise self._failure
        if self._process is None:
            raise SetupError("The inference server is not running.")
        return self._process

    def _living(self) -> dict[int, Stub]:
        return stubs.of_server(self.pid)

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._wake_write, b"!")

    # ---- the supervisor's thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            for folder in run_folder.abandoned():
                for server in folder.iterdir():
                    stubs.clean_up(server)
                folder.rmdir()
            self._start_process()
            with self._changed:
                self._started = True
                self._changed.notify_all()
            while not self._stopping:
                asked = self._asked
                self._look()
                with self._changed:
                    self._answered = asked
                    self._changed.notify_all()
                while not (self._wait() or self._stopping):
                    self._end_hanging()
        except TritonVisionError as error:
            log.error("The inference server is lost: %s", error.message)
            self._failure = error
        finally:
            self._end()
            with self._changed:
                if not self._stopping and self._failure is None:  # a fault of ours, whose trace Python prints
                    self._failure = SetupError("The inference server is not watched any more and was ended.")
                self._changed.notify_all()

    def _start_process(self) -> None:
        log_file = self._settings.log_dir / f"tritonserver-{self._settings.port}.log"
        self._process = TritonProcess(
            self._installation, self._settings.repository, log_file, self._run_folder.path
        )
        self._beats = heartbeat.Watch(self._process.folder)
        self._watch({})
        self._process.wait_live()
        self.version = self._process.control.version()

    def _wait(self) -> bool:
        """Sleep until a process ends or somebody asks: True; or for a second: False."""
        events = self._poll.poll(_LOOK_SECONDS * 1000)
        if any(descriptor == self._wake_read for descriptor, _ in events):
            os.read(self._wake_read, 4096)
        return bool(events)

    def _end_hanging(self) -> None:
        """Kill what stopped beating, and what stays on after its successors are up; the end of either is an event."""
        overdue = time.monotonic() - _RETIREMENT
        for pid in [pid for pid, since in self._retired.items() if since < overdue and pid in self._stubs]:
            stubs.end(self._stubs[pid])
        for pid in self._beats.stale():
            if pid in self._stubs:
                log.warning("A process of %s hangs and is ended.", self._stubs[pid].model)
                stubs.end(self._stubs[pid])

    def _look(self) -> None:
        """See which processes there are, and replace what is missing."""
        process = self._running()
        if not process.running():
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
        self._retired = {pid: since for pid, since in self._retired.items() if pid in known}
        for model in {stub.model for stub in gone if stub.pid not in self._retired}:
            present = sum(s.model == model and s.pid not in self._retired for s in living.values())
            if present < self._instances.get(model, 0):
                self.deaths += self._instances[model] - present
                self._deaths_of[model] += self._instances[model] - present
                self._heal(model)

    def _watch(self, living: dict[int, Stub]) -> None:
        """Be woken when one of these processes or the server ends."""
        wanted = set(living) if self._process is None else {*living, self._process.pid}
        for pid in wanted - set(self._pidfds.values()):
            with contextlib.suppress(ProcessLookupError):
                descriptor = os.pidfd_open(pid)
                self._pidfds[descriptor] = pid
                self._poll.register(descriptor, select.POLLIN)
        for descriptor, pid in list(self._pidfds.items()):
            if pid not in wanted:
                self._poll.unregister(descriptor)
                os.close(descriptor)
                del self._pidfds[descriptor]

    def _heal(self, model: str) -> None:
        """Swap ``model``; when that fails again and again, restart the whole server."""
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
            self._restart()
        finally:
            self._sick = False
            self._wake()  # look again: the swap made new processes

    @contextlib.contextmanager
    def _succession(self, model: str) -> Iterator[None]:
        """Around a load: where it brought up new processes of ``model``, the ones before are on their way out."""
        before = {pid for pid, stub in self._living().items() if stub.model == model}
        yield
        after = {pid for pid, stub in self._living().items() if stub.model == model}
        if after - before:
            self._retired |= dict.fromkeys(before - self._retired.keys(), time.monotonic())

    def _restart(self) -> None:
        """Start the server afresh and load what was loaded. Raises SetupError when it keeps ending."""
        now = time.monotonic()
        self._restarts = [*(t for t in self._restarts if now - t < _RESTART_WINDOW), now]
        if len(self._restarts) > _RESTARTS:
            raise SetupError("tritonserver ended again and again.", hint="Its log tells why.")
        log.error("tritonserver is restarted.")
        self._sick = True
        try:
            self._end(gently=False)
            self._start_process()
            for model in list(self._instances):
                with contextlib.suppress(TritonVisionError):
                    self._running().control.load(model)
        finally:
            self._sick = False
            self._wake()

    def _end(self, gently: bool = True) -> None:
        if self._process is None:
            return
        self._stubs |= stubs.of_server(self._process.pid)
        # A server that lost a stub waits out its whole exit timeout, so it is not asked.
        self._process.stop(gently and not self.deaths)
        for stub in self._stubs.values():
            stubs.end(stub)
            stubs.forget(self._process.folder, stub)
        self._process = None
        self._stubs = {}
        self._watch({})
