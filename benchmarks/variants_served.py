"""Models in reduced precision through the real tritonserver: what the gate says, and what the server then answers.

    python benchmarks/variants_served.py --repository DIR [--only ID ...] [--precisions bf16 int8] [--calibrate FOLDER]
        [--gate-data FOLDER] [--write FILE]

Each model is published from random weights where DIR does not hold it. Each variant is built and put through the
precision gate, as ``tritonvision variants add`` does it. Then two servers run, one with the model as it was exported,
one with the variant, and the gate's measure compares what they answer over gRPC about pictures that calibrated
nothing. Where the gate refuses, the server with that variant is not started: nobody could have it. CPU ms is the
processor time of the server's Python processes for one request, which other processes of the machine hardly change.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import machine
import numpy as np
from PIL import Image

from tritonvision import catalog, golden
from tritonvision.engine import codec
from tritonvision.engine.triton_grpc import AsyncTritonClient
from tritonvision.ensembles import model_configs, published
from tritonvision.ensembles.entry_points import Chain, Chat, EntryPoint
from tritonvision.errors import TritonVisionError
from tritonvision.exporters import pipeline, variants
from tritonvision.exporters.contract import Weights
from tritonvision.exporters.parity import sample_pictures
from tritonvision.exporters.precision import calibration
from tritonvision.exporters.precision.gate import Gate, Imprecise
from tritonvision.exporters.precision.measures.registry import MEASURES
from tritonvision.exporters.variants import folders
from tritonvision.publication import Manifest, Repository
from tritonvision.server import Embedded
from tritonvision.settings import Settings
from tritonvision.variants import variant_name

MODELS = (
    "yolov8n-640", "resnet50", "clip/ViT-B-32", "depth-anything-v2-small", "sam-vit_b", "doctr-db_mobilenet_v3",
    "tests/small-vlm/1",
)  # fmt: skip
DEADLINE, ASKED = 120.0, 8
TITLE = """# Reduced precision, served

Written by `benchmarks/variants_served.py`, which says how. Each variant passed the precision gate, or the row says why
not; then two real tritonservers, one with the model as it was exported and one with the variant, answered questions
about pictures, and the gate's measure compared them. Weights are random, which bear reduced precision worse than
trained ones do, but for `tests/shapes/1`, `tests/reader/1` and `tests/depth/1`, which `benchmarks/trained.py` trained,
and `trained/reader`, a small SmolVLM of `benchmarks/trained_precision.py`; labelled pictures judge the first.
"""
HEAD = (
    "| model | variant | the gate | layers in fp32 | served, against served fp32 | CPU ms a request: fp32 | variant |\n"
    "|---|---|---|---|---|---|---|"
)


class Server:
    """A server over a linked copy of one model, as one variant; asked as the gate asks pipelines of its own process."""

    def __init__(self, source: Path, folder: Path, manifest: Manifest, name: str):
        self.manifest = manifest
        self._points = {point.role: point for point in published.entry_points_of(source, manifest)}
        needed = [Repository(source).get(need) for need in manifest.needs]
        models = [one for one in (*needed, manifest) if one is not None]
        for one in models:
            for model in (*one.steps, *one.triton_names):
                folders.link(source / model, folder / "models" / model, ())
        settings = Settings(repository=folder / "models", log_dir=folder)
        self.server = Embedded(settings.model_copy(update={"port": 0}))
        self.server.start()
        for one in models:
            for model in (*one.steps, *one.triton_names):
                self.server.load(model, name)
        self._runner = asyncio.Runner()
        self._client = self._runner.run(_client(self.server.address))

    def close(self) -> None:
        """End the server."""
        self._runner.run(self._client.close())
        self._runner.close()
        self.server.stop()

    def answers(self) -> dict[str, Any]:
        """How to ask each entry point, by role: as :class:`tritonvision.exporters.precision.gate.Gate` does."""
        return {role: lambda sample, given, p=point: self.ask(p, sample, given) for role, point in self._points.items()}

    def ask(self, point: EntryPoint, sample: Any, given: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The answer about one sample, without the batch axis."""
        model = model_configs.entry_point_name(self.manifest.triton_name, point.role)
        told = json.dumps(dict(given)).encode()
        if isinstance(point, Chat):
            inputs = {
                "image": golden.strings([png(p) for p in sample["pictures"]], (len(sample["pictures"]),)),
                "messages": golden.strings([json.dumps(sample["messages"]).encode()], (1,)),
                "parameters": golden.strings([told], (1,)),
            }  # fmt: skip
            return self._runner.run(self._written(model, inputs))
        text = isinstance(sample, str)
        data = sample.encode() if text else png(sample)
        inputs = {"text" if text else "image": golden.strings([data], (1, 1))}
        inputs["parameters"] = golden.strings([told], (1, 1))
        wanted = point.head.tensors if text else point.head.outputs if isinstance(point, Chain) else point.outputs
        names = [tensor.name for tensor in wanted]
        found = self._runner.run(self._client.tensors(model, inputs, names, DEADLINE))
        return {name: value[0] for name, value in found.items()}

    async def _written(self, model: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        request = codec.encode_tensors(model, inputs)
        ids = [delta.token_ids async for delta in self._client.stream(request, DEADLINE)]
        return {"token_ids": np.concatenate(ids)}

    def cpu(self) -> float:
        """Milliseconds of the main entry point's first question, as processor time of all Python processes."""
        point = self._points[""]
        question = MEASURES[point.name](point).questions([sample_pictures.photo()])[0]
        self.ask(point, question.sample, question.given)
        before = self._seconds()
        for i in range(ASKED):  # each another picture: what was encoded once is kept
            sample = question.sample
            sample = sample if isinstance(sample, str | dict) else np.ascontiguousarray(np.roll(sample, 8 * i + 8, 1))
            self.ask(point, sample, question.given)
        return 1000 * (self._seconds() - before) / ASKED

    def _seconds(self) -> float:
        tick, total = os.sysconf("SC_CLK_TCK"), 0
        for stub in self.server.processes():
            fields = Path(f"/proc/{stub.pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total / tick


async def _client(address: str) -> AsyncTritonClient:
    return AsyncTritonClient(address, DEADLINE)


def png(picture: np.ndarray) -> bytes:
    """The picture, encoded without loss."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


@contextmanager
def serving(source: Path, manifest: Manifest, name: str) -> Iterator[Server]:
    """A server with the variant ``name`` of the model."""
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        server = Server(source, Path(folder), manifest, name)
        try:
            yield server
        finally:
            server.close()


def figures(found: Mapping[str, float]) -> str:
    """Figures of the gate, in a cell; of accuracies with what fp32 reaches."""
    return ", ".join(
        f"{name} {value:.5g}" + (f" (fp32: {found[f'{name}_fp32']:.5g})" if f"{name}_fp32" in found else "")
        for name, value in found.items()
        if not name.endswith("_fp32")
    )


def rows(
    root: Path, model_id: str, precisions: list[str], calibrate: Path | None, gate_data: Path | None
) -> Iterator[str]:
    """The rows of one model."""
    if Repository(root).get(model_id) is None:
        pipeline.export(catalog.find(model_id).id, Weights("random"), root)
    for precision in precisions:
        try:
            manifest = variants.add(
                root, model_id, "openvino", precision, calibrate=calibrate, gate_data=gate_data, force=True
            )
        except TritonVisionError as error:
            yield f"| {model_id} | openvino-{precision} | refused: {error.message} | - | - | - | - |"
            continue
        variant = variants.find(manifest, variant_name("openvino", precision))
        points = published.entry_points_of(root, manifest)
        with ExitStack() as both:
            base, other = (
                both.enter_context(serving(root, manifest, name)) for name in (manifest.base_variant, variant.name)
            )
            changed = [point for point in points if any(net.role in variant.networks for net in point.nets)]
            judging = calibration.sets(calibrate)[1]
            gate = Gate(base.answers(), changed, gate_data, judging, manifest.labels, manifest.map_meaning)
            try:
                served = figures(gate.check(other.answers(), "The server").figures)
            except Imprecise as error:
                served = f"**{error.message}**"
            kept = f"{len(variant.kept_fp32)}{' (typed)' if variant.typed else ''}"
            yield (
                f"| {model_id} | {variant.name} | {figures(variant.figures)} | {kept} | {served} | {base.cpu():.0f} "
                f"| {other.cpu():.0f} |"
            )


def main() -> None:
    """Print the rows, and with ``--write`` put them into the table of a file, in place of older ones."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=list(MODELS))
    parser.add_argument("--precisions", nargs="*", default=["bf16", "int8"])
    parser.add_argument("--calibrate", type=Path)
    parser.add_argument("--gate-data", type=Path)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    about = f"{machine.describe('openvino', 'nncf')}."
    print(f"{about}\n\n{HEAD}", flush=True)
    for model_id in options.only:
        for row in rows(options.repository, model_id, options.precisions, options.calibrate, options.gate_data):
            print(row, flush=True)
            if options.write:
                write(options.write, about, row)


def write(file: Path, about: str, row: str) -> None:
    """Put a row into the table of ``file``, which is made where it is missing."""
    known = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    found = {tuple(line.split("|")[1:3]): line for line in known if line.startswith("| ") and "| model |" not in line}
    found[tuple(row.split("|")[1:3])] = row
    file.write_text(
        f"{TITLE}\n{about}\n\n{HEAD}\n" + "\n".join(found[key] for key in sorted(found)) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
