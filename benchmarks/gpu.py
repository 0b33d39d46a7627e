"""Plans on a GPU: built, through the gate, served by the tritonserver of this machine, and measured: benchmarks/GPU.md.

``tests/gpu/run.sh`` looks whether the machine has what this needs, and starts it. It has not been run yet.
"""

from __future__ import annotations

import argparse
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from shutil import which

import numpy as np
from tritonclient import grpc as triton

from tritonvision import machine
from tritonvision.ensembles import model_configs, published
from tritonvision.ensembles.entry_points import Net
from tritonvision.errors import TritonVisionError
from tritonvision.exporters import pipeline, variants
from tritonvision.exporters.contract import Weights
from tritonvision.publication import Manifest

DOCUMENT = Path(__file__).parent / "GPU.md"
ADDRESS = "127.0.0.1:8001"
MODELS = "yolov8n-640 resnet50 clip/ViT-B-32 depth-anything-v2-small rfdetr-nano"
PRECISIONS = "fp32 fp16 bf16 int8 fp8"
COLUMNS = (
    "model", "precision", "gate", "plan MB", "build and gate s", "trtexec ms", "Triton p50 ms, 1 caller",
    "Triton samples/s, 32 callers", "ONNX Runtime p50 ms, 1 caller",
)  # fmt: skip


def main() -> int:
    """Measure all, write the document; 1 where something failed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--models", default=MODELS)
    options.add_argument("--precisions", default=PRECISIONS)
    options.add_argument("--weights", default="random")
    options.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    given = options.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for model_id in given.models.split():
            manifest = pipeline.export(model_id, Weights(given.weights), Path(folder))
            for precision in given.precisions.split():
                rows.append(row(Path(folder), manifest, precision, given.seconds))
                print(" | ".join(rows[-1]), file=sys.stderr, flush=True)
    DOCUMENT.write_text(document(rows, about()))
    return int(any("failed" in cell for cells in rows for cell in cells))


def row(repository: Path, manifest: Manifest, precision: str, seconds: float) -> list[str]:
    """One line of the table; a step that fails says why in its cell."""
    begun = time.monotonic()
    try:
        changed = variants.add(repository, manifest.id, "tensorrt", precision, serve=True, force=True)
    except TritonVisionError as error:
        return [manifest.id, precision, f"failed: {error.message}", *["-"] * (len(COLUMNS) - 3)]
    taken = time.monotonic() - begun
    variant = changed.serving_variant
    assert variant is not None
    gate = ", ".join(f"{name} {value:.4g}" for name, value in variant.figures.items())
    net = next(n for p in published.entry_points_of(repository, changed) for n in p.nets if n.role == "")
    name = model_configs.net_name(changed.triton_name)
    plan = repository / name / "1" / variant.file()
    try:
        alone, many = served(repository, name, net, seconds)
        variants.use(repository, manifest.id, manifest.base_variant)
        base, _ = served(repository, name, net, seconds)
    except (OSError, TritonVisionError, triton.InferenceServerException, TimeoutError) as error:
        return [manifest.id, precision, gate, f"failed: {str(error).splitlines()[0]}", *["-"] * (len(COLUMNS) - 4)]
    return [
        manifest.id, precision, gate, f"{plan.stat().st_size / 1e6:.1f}", f"{taken:.0f}", trtexec(plan, net),
        f"{alone:.2f}", f"{many:.0f}", f"{base:.2f}",
    ]  # fmt: skip


def served(repository: Path, name: str, net: Net, seconds: float) -> tuple[float, float]:
    """Milliseconds of the median request of one caller, and samples a second of 32, of a network behind Triton."""
    with serving(repository, name):
        alone, _ = load(name, net, 1, seconds)
        _, many = load(name, net, 32, seconds)
    return alone, many


@contextmanager
def serving(repository: Path, name: str) -> Iterator[None]:
    """The tritonserver of this machine with one model. Raises TimeoutError where it is not ready in two minutes."""
    command = ["tritonserver", f"--model-repository={repository}", "--model-control-mode=explicit",
               f"--load-model={name}", "--allow-http=false", "--allow-metrics=false"]  # fmt: skip
    process = subprocess.Popen([*command, "--grpc-address=127.0.0.1"], stdout=subprocess.DEVNULL)
    try:
        give_up = time.monotonic() + 120
        with triton.InferenceServerClient(ADDRESS) as client:
            while not ready(client, name):
                if process.poll() is not None or time.monotonic() > give_up:
                    raise TimeoutError(f"tritonserver did not load {name}")
                time.sleep(0.2)
        yield
    finally:
        process.terminate()
        process.wait(60)


def ready(client: triton.InferenceServerClient, name: str) -> bool:
    """Whether the server has the model."""
    try:
        return client.is_model_ready(name)
    except triton.InferenceServerException:
        return False


def load(name: str, net: Net, callers: int, seconds: float) -> tuple[float, float]:
    """(milliseconds of the median request, requests a second) of so many callers, each request a sample of noise."""
    rng = np.random.default_rng(0)
    inputs = []
    for tensor in net.inputs:
        usual = iter(bounds[1] for bounds in tensor.bounds)
        value = rng.integers(0, 256, (1, *(next(usual) if axis == -1 else axis for axis in tensor.dims)))
        given = triton.InferInput(tensor.name, list(value.shape), tensor.dtype)
        given.set_data_from_numpy(value.astype(tensor.numpy))
        inputs.append(given)
    times: list[float] = []
    end, lock = time.monotonic() + seconds, threading.Lock()

    def call() -> None:
        with triton.InferenceServerClient(ADDRESS) as client:
            while time.monotonic() < end:
                begun = time.perf_counter()
                client.infer(name, inputs)
                with lock:
                    times.append(time.perf_counter() - begun)

    with ThreadPoolExecutor(callers) as pool:
        for done in [pool.submit(call) for _ in range(callers)]:
            done.result()
    return 1000 * statistics.median(times), len(times) / seconds


def trtexec(plan: Path, net: Net) -> str:
    """Milliseconds of one sample by NVIDIA's own tool, or why there is no figure."""
    if which("trtexec") is None:
        return "no trtexec"
    if any(-1 in tensor.dims for tensor in net.inputs):
        return "free axes"
    shapes = ",".join(f"{tensor.name}:{'x'.join(map(str, (1, *tensor.dims)))}" for tensor in net.inputs)
    done = subprocess.run(
        ["trtexec", f"--loadEngine={plan}", f"--shapes={shapes}", "--useCudaGraph"], capture_output=True, text=True
    )
    return latency(done.stdout) if not done.returncode else f"failed: trtexec ended with {done.returncode}"


def latency(said: str) -> str:
    """The median latency that trtexec tells."""
    found = re.search(r"Latency: .*?median = ([0-9.]+) ms", said)
    return found[1] if found else "failed: trtexec tells no median"


def about() -> str:
    """The machine, in words."""
    import tensorrt

    gpu = machine.gpu()
    assert gpu is not None
    part = f", part {gpu.mig}" if gpu.mig else ""
    return (
        f"{gpu.name}{part}, compute capability {gpu.compute_capability}, driver for CUDA {gpu.cuda}, "
        f"TensorRT {tensorrt.__version__}, {machine.cpu_name()}, {platform.platform()}"
    )


def document(rows: list[list[str]], where: str) -> str:
    """The text of benchmarks/GPU.md."""
    table = [COLUMNS, ["---"] * len(COLUMNS), *rows]
    lines = "\n".join(f"| {' | '.join(cells)} |" for cells in table)
    return f"# Plans on a GPU\n\nBy `tests/gpu/run.sh` on {where}.\n\n{lines}\n"


if __name__ == "__main__":

    sys.exit(main())
