"""Requests a second and p99 / p50, beside Roboflow's own server with the same network, in alternating windows.

    .venv-export/bin/python benchmarks/peer_package.py yolov8n-640 FOLDER
    python benchmarks/peers.py yolov8n-640 --repository DIR --package FOLDER --peer PEER/bin/python

PEER is a virtual environment with ``inference-cpu`` and what its HTTP server imports (uvicorn, asgi-correlation-id,
python-multipart, aiortc, slowapi, fastapi-cprofile). Both servers answer the same requests of the same route with the
same random weights.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import load
import machine
import pictures
from limit import serving
from speed import QUESTIONS

from tritonvision.publication import Repository
from tritonvision.server.process import free_port

_LOAD = 0.7  # of what a server answers at most


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--package", type=Path, required=True)
    parser.add_argument("--peer", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    question = QUESTIONS[given.model]
    manifest = Repository(given.repository).resolve(given.model)
    jpegs = pictures.jpegs(32)

    def asked(name: str) -> list[bytes]:
        return load.requests(question.route, jpegs, model_id=name, api_key="none", **question.fields)

    with ExitStack() as stack:
        port = stack.enter_context(peer(given.peer, asked(str(given.package.absolute()))[0]))
        servers = {"Roboflow": (port, asked(str(given.package.absolute())))}
        for variant in (manifest.base_variant, *(variant.name for variant in manifest.variants)):
            server = stack.enter_context(serving(given.repository, given.model, variant))
            servers[variant] = (server.port, asked(given.model))
            load.run(*servers[variant], 4, 3)
        measures: dict[str, Callable[[], load.Window]] = {
            f"{name}, {callers}": lambda at=at, callers=callers: load.run(*at, callers, given.seconds)
            for name, at in servers.items()
            for callers in (1, 4, 16)
        }
        windows = windows_of(measures, given.rounds)
        rate = {name: statistics.median(w.per_second for w in rows) for name, rows in windows.items()}
        arrivals = windows_of({
            name: lambda at=at, name=name: load.poisson(*at, _LOAD * rate[f"{name}, 4"], 2 * given.seconds)
            for name, at in servers.items()
        }, given.rounds)  # fmt: skip
    print(f"{machine.describe('openvino')}\n")
    print("| server, callers | a second | of Roboflow's | p50 ms | failures |")
    print("|---|---|---|---|---|")
    for name, rows in windows.items():
        other = rate[f"Roboflow, {name.rpartition(' ')[2]}"]
        p50 = statistics.median(w.percentile(0.5) for w in rows)
        print(f"| {name} | {rate[name]:.1f} | {rate[name] / other:.2f} | {p50:.0f} | {sum(w.failures for w in rows)} |")
    print(f"\n| at random moments, {_LOAD:.0%} of what 4 callers get | a second | p50 ms | p99 ms | p99 / p50 |")
    print("|---|---|---|---|---|")
    for name, rows in arrivals.items():
        p50, p99 = (statistics.median(w.percentile(q) for w in rows) for q in (0.5, 0.99))
        print(f"| {name} | {rows[0].per_second:.1f} | {p50:.0f} | {p99:.0f} | {p99 / p50:.2f} |")


def windows_of(measures: dict[str, Callable[[], load.Window]], rounds: int) -> dict[str, list[load.Window]]:
    """The windows of each measure, which take turns."""
    found: dict[str, list[load.Window]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            found[name].append(measure())
    return found


@contextmanager
def peer(python: Path, message: bytes) -> Iterator[int]:
    """Roboflow's server on a free port, once it has answered the request ``message``."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        for page in ("static", "_next/static"):  # its landing page is not in its wheel
            (Path(folder) / "inference/landing/out" / page).mkdir(parents=True)
        script = Path(__file__).with_name("peer_roboflow.py")
        process = subprocess.Popen(
            [python.absolute(), script, str(port)], cwd=folder, env=os.environ | {"HOME": folder},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            _until_answered(port, message, process)
            yield port
        finally:
            process.terminate()
            process.wait(30)


def _until_answered(port: int, message: bytes, process: subprocess.Popen) -> None:
    body = json.loads(message.partition(b"\r\n\r\n")[2])
    path = message.split(b" ")[1].decode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    for _ in range(240):
        if process.poll() is not None:
            raise SystemExit("Roboflow's server ended; start benchmarks/peer_roboflow.py by hand to see why.")
        try:
            urllib.request.urlopen(request, timeout=60).read()
            return
        except urllib.error.HTTPError as error:
            raise SystemExit(f"Roboflow's server answered {error.code}: {error.read()[:300]!r}") from error
        except OSError:
            time.sleep(0.5)
    raise SystemExit("Roboflow's server did not answer within two minutes.")


if __name__ == "__main__":
    main()
