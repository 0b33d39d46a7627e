"""The time of a further prompt on the same picture, over gRPC and HTTP, and of the decoder alone in this process.

Both kinds of requests alternate, so that a machine that slows down affects both. Every prompt is different. Masks of
random weights are ragged: they have fifty times as many run lengths as an object's mask, which takes milliseconds each.

    python benchmarks/sam_prompts.py --repository DIR

sam-vit_b is published there; random weights will do, but not the model of the tests, which has fewer layers.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import machine
import numpy as np
import pictures
from served import Served
from tritonclient.grpc import service_pb2_grpc

from tritonvision import catalog
from tritonvision.endpoint import CHANNEL_OPTIONS
from tritonvision.engine import codec
from tritonvision.publication import Repository
from tritonvision.server import Embedded
from tritonvision.settings import Settings

WANTED = ("masks", "scores", "low_res_masks", "image_size")
SIZE = (1280, 720)
Ask = Callable[[list[float]], None]


def main() -> None:
    """Measure and print a table in Markdown."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--model", default="sam-vit_b")
    parser.add_argument("--prompts", type=int, default=30)
    options = parser.parse_args()

    os.environ.setdefault("TRITONVISION_DEADLINE", "120")  # the first prompt waits for the encoder
    jpeg = pictures.jpegs(1)[0]
    name = catalog.triton_name(options.model)
    decoder = Decoder(options.repository / f"net--{name}--decoder" / "1" / "model.onnx")
    print(f"{machine.describe()}; {options.model}, a JPEG of 1280x720, {len(jpeg) / 1000:.0f} KB\n")
    print("| | first prompt s | one more ms | decoder alone ms | over it ms |")
    print("|---|---|---|---|---|")
    for what, opened in {
        "gRPC, three masks, one connection": over_grpc(options, jpeg, multimask=True),
        "gRPC, three masks, a connection each": over_grpc(options, jpeg, multimask=True, anew=True),
        "gRPC, one mask, one connection": over_grpc(options, jpeg, multimask=False),
        "HTTP, one outline, one connection": over_http(options, jpeg),
        "HTTP, one outline, a connection each": over_http(options, jpeg, anew=True),
    }.items():
        with opened as ask:
            began = time.perf_counter()
            ask([1, 1])
            first = time.perf_counter() - began
            prompts, alone = [], []
            for i in range(options.prompts):
                point = [float(v) for v in (37 * i % SIZE[0], 53 * i % SIZE[1])]
                prompts.append(milliseconds(lambda point=point: ask(point)))
                alone.append(milliseconds(lambda point=point: decoder(point)))
        prompt, limit = statistics.median(prompts), statistics.median(alone)
        print(f"| {what} | {first:.1f} | {prompt:.1f} | {limit:.1f} | {prompt - limit:+.1f} |", flush=True)


def milliseconds(work: Callable[[], None]) -> float:
    """The milliseconds that ``work`` takes."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


class Decoder:
    """The decoder's graph in this process, with as many threads as in serving."""

    def __init__(self, graph: Path):
        import onnxruntime  # imported after the package, which turns its telemetry off

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 2
        # threads stop spinning when a run ends, because the server works in between
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self._session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        self._embeddings = np.random.default_rng(0).normal(size=(1, 256, 64, 64)).astype(np.float32)

    def __call__(self, point: list[float]) -> None:
        self._session.run(None, {
            "embeddings": self._embeddings, "point_coords": np.float32([[point, [0, 0]]]),
            "point_labels": np.float32([[1, -1]]), "mask_input": np.zeros((1, 1, 256, 256), np.float32),
            "has_mask": np.zeros((1, 1), np.float32),
        })  # fmt: skip


@contextmanager
def over_grpc(options: argparse.Namespace, jpeg: bytes, *, multimask: bool, anew: bool = False) -> Iterator[Ask]:
    """A function that asks tritonserver directly, over one connection or over a new one each time."""
    manifest = Repository(options.repository).resolve(options.model)
    server = Embedded(Settings(repository=options.repository))
    server.start()
    try:
        for model in (*manifest.steps, manifest.triton_name):
            server.load(model)
        channels = [grpc.insecure_channel(server.address, options=CHANNEL_OPTIONS)]

        def ask(point: list[float]) -> None:
            if anew:
                channels.pop().close()
                # its own pool: otherwise connections with equal options are shared
                fresh = (*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1))
                channels.append(grpc.insecure_channel(server.address, options=fresh))
            settings = {"points": [point], "multimask": multimask}
            request = codec.encode(manifest.triton_name, [{"image": jpeg}], [settings], WANTED)
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channels[0])
            (found,) = codec.decode(stub.ModelInfer(request, timeout=120))
            assert len(found["masks"]) == (3 if multimask else 1)

        yield ask
        channels[0].close()
    finally:
        server.stop()


@contextmanager
def over_http(options: argparse.Namespace, jpeg: bytes, *, anew: bool = False) -> Iterator[Ask]:
    """A function that asks the facade, with the picture each time, over one connection or over a new one each time."""
    image = {"type": "base64", "value": base64.b64encode(jpeg).decode()}
    with Served(options.repository, options.model) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)

        def ask(point: list[float]) -> None:
            body = {
                "image": image, "sam_version_id": options.model.removeprefix("sam-"), "point_coords": [point],
                "point_labels": [1],
            }  # fmt: skip
            connection.request("POST", "/sam/segment_image", json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = response.read()
            assert response.status == 200, answer[:200]
            if anew:
                connection.close()

        yield ask


if __name__ == "__main__":
    main()
