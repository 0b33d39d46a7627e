"""What ``make demo`` runs: publish the face detector, serve it, ask about a real photograph, draw the answer.

python -m tritonvision.cli.demo [--once] [--port 9001]
"""

from __future__ import annotations

import base64
import contextlib
import signal
import subprocess
import sys
import time
from importlib import resources
from pathlib import Path
from typing import Annotated

import httpx
import typer

from tritonvision.cli import INTERRUPTED, complain, exit_code
from tritonvision.cli.answers import Answer, lines
from tritonvision.cli.options import settings_with
from tritonvision.cli.predict import save_drawn
from tritonvision.client.remote.parsers import to_reading
from tritonvision.errors import SetupError, TritonVisionError
from tritonvision.facade.run import listen
from tritonvision.publication import Repository

MODEL = "mediapipe-face-detection"
TARGET = Path("out") / "astronaut-faces.png"
_COMMAND = [sys.executable, "-m", "tritonvision"]
_READY_SECONDS = 90.0
_END_SECONDS = 20.0


def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the answer.")] = False,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port of the server. [9001]")] = None,
) -> None:
    """Show one true answer to one real photograph."""
    settings = settings_with(port=port)
    try:
        listen(settings.host, settings.port).close()  # or another server would be asked in place of ours
        if Repository(settings.repository).get(MODEL) is None:
            _export()
        _show(settings.port, once)
    except TritonVisionError as error:
        complain(error.message, error.hint)
        raise typer.Exit(exit_code(error)) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def _export() -> None:
    status = subprocess.run([*_COMMAND, "export", MODEL, "--engine", "onnxruntime"], check=False).returncode
    if status:
        raise typer.Exit(status)  # the export has said why


def _show(port: int, once: bool) -> None:
    # what it prints is read by a person: the answer is, a line for each request is not
    server = subprocess.Popen([*_COMMAND, "serve", MODEL, "--port", str(port), "--log-level", "warning"])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # leaves through the finally below
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_ready(server, url)
        _ask(url)
        if not once:
            typer.echo(f"\nServing on {url} (its pages: {url}/docs). Ctrl-C ends it.")
            with contextlib.suppress(KeyboardInterrupt):
                server.wait()
    finally:
        server.terminate()
        try:
            server.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()


def _wait_ready(server: subprocess.Popen, url: str) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise typer.Exit(server.returncode or 1)  # it has said why
        try:
            if httpx.get(f"{url}/readiness", timeout=1.0, trust_env=False).is_success:
                return
        except httpx.HTTPError:
            pass  # not listening yet
        time.sleep(0.1)
    raise SetupError("The server was not ready within 90 seconds.", hint="'tritonvision doctor' looks for the cause.")


def _ask(url: str) -> None:
    picture = resources.files("tritonvision.data").joinpath("astronaut.png").read_bytes()
    body = {"model_id": MODEL, "image": {"type": "base64", "value": base64.b64encode(picture).decode()}}
    typer.echo(f"\nPOST {url}/infer/keypoints_detection   (a photograph by NASA, base64 in JSON)")
    started = time.perf_counter()
    reply = httpx.post(f"{url}/infer/keypoints_detection", json=body, timeout=60.0, trust_env=False)
    took = time.perf_counter() - started
    if not reply.is_success:
        raise TritonVisionError(f"The server answered {reply.status_code}: {reply.text[:200]}")
    answer = Answer(*to_reading("keypoint-detection", reply.json()))
    found = answer.predictions(None)
    typer.echo("\n".join(lines("astronaut.png", found)))
    if not found:
        raise TritonVisionError("The face was not found.", hint="'tritonvision doctor' looks for the cause.")
    TARGET.parent.mkdir(exist_ok=True)
    save_drawn(picture, answer, TARGET)
    typer.echo(f"Answered in {took * 1000:.0f} ms. The picture with the face drawn in: {TARGET.resolve()}")


if __name__ == "__main__":
    typer.run(demo)
