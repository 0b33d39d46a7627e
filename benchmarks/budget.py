"""The budget of one request, stage by stage: processor time served, beside the same work called directly.

    python benchmarks/budget.py --repository DIR [--model yolov8n-640]      (published there)

Direct calls run on one thread in this process. Served is what the kernel counts for the processes of each stage while
four callers ask, as in ``request_cost.py``.
"""

from __future__ import annotations

import argparse
import base64
import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import load
import machine
import numpy as np
import orjson
import pictures
import pybase64
from request_cost import processor_seconds
from served import Served
from speed import QUESTIONS

from tritonvision.ensembles.in_process import LocalPipeline
from tritonvision.ensembles.published import entry_points_of, graphs_of
from tritonvision.pictures import decode, read_header
from tritonvision.publication import Repository
from tritonvision.tasks import resolve

STAGES = {"facade": "facade", "tritonserver": "tritonserver", "pre": "pre step", "net": "network", "post": "post step"}


def main() -> None:
    """Print a table in Markdown, in microseconds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--model", default="yolov8n-640")
    parser.add_argument("--seconds", type=float, default=8)
    given = parser.parse_args()
    question, jpegs = QUESTIONS[given.model], pictures.jpegs(16)
    messages = load.requests(question.route, jpegs, model_id=question.model, **question.fields)
    with Served(given.repository, given.model) as server:
        load.run(server.port, messages, 4, 3)
        names = server.names()
        before = {pid: processor_seconds(pid) for pid in names}
        answers = len(load.run(server.port, messages, 4, given.seconds).milliseconds)
        served: Counter[str] = Counter()
        for pid, name in names.items():
            served[name.partition("--")[0]] += (processor_seconds(pid) - before[pid]) * 1e6 / answers
    floors, stages = floor(given.repository, given.model, jpegs, question.settings), dict(STAGES)
    if not served["pre"]:  # the steps run in the network's processes
        floors["net"] = floors.pop("pre") | floors["net"] | floors.pop("post")
        stages = {name: stages[name] for name in ("facade", "tritonserver", "net")} | {"net": "network and its steps"}
    print(f"{machine.describe('openvino')}; {given.model}, JPEGs of 1280x720, {answers} answers\n")
    print("| stage | served, us | called directly, us | of which |")
    print("|---|---|---|---|")
    for stage, title in stages.items():
        parts = floors.get(stage, {})
        listed = ", ".join(f"{name} {value:.0f}" for name, value in parts.items())
        print(f"| {title} | {served[stage]:.0f} | {sum(parts.values()):.0f} | {listed or '-'} |")
    print(f"| together | {sum(served.values()):.0f} | {sum(sum(p.values()) for p in floors.values()):.0f} | |")


def floor(repository: Path, model: str, jpegs: list[bytes], settings: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Microseconds of each function of each stage, called directly on one thread."""
    cv2.setNumThreads(1)
    manifest = Repository(repository).resolve(model)
    point = entry_points_of(repository, manifest)[0]
    pipeline = LocalPipeline(graphs_of(repository, manifest, [point])[""], point.pre, point.head, threads=1)
    picture = decode(jpegs[0])
    inputs, geometry = pipeline.inputs(picture)
    batch = {name: value[None] for name, value in inputs.items()}
    tensors = {name: value[0] for name, value in pipeline.tensors(batch).items()}
    resolved = resolve(pipeline.head.task.parameters, settings)
    text = base64.b64encode(jpegs[0])
    body = json.dumps({"model_id": model, "image": {"type": "base64", "value": text.decode()}}).encode()
    answer = {name: value for name, value in pipeline(picture, settings).items() if isinstance(value, np.ndarray)}
    rows = {name: value.tolist() for name, value in answer.items() if value.dtype != object}
    return {
        "facade": {
            "JSON": timed(lambda: orjson.loads(body)), "base64": timed(lambda: pybase64.b64decode(text, validate=True)),
            "header": timed(lambda: read_header(jpegs[0])), "answer": timed(lambda: orjson.dumps(rows)),
        },
        "pre": {
            "decode": timed(lambda: decode(jpegs[0])), "resize": timed(lambda: pipeline.inputs(picture)),
        },
        "net": {"run": timed(lambda: pipeline.tensors(batch), 12)},
        "post": {"postprocessor": timed(lambda: pipeline.head.postprocessor(tensors, geometry, resolved))},
    }  # fmt: skip


def timed(call: Callable[[], Any], rounds: int = 60) -> float:
    """The lower quartile of the microseconds of processor time that ``call`` takes."""
    taken = []
    for _ in range(rounds):
        began = time.process_time_ns()
        call()
        taken.append((time.process_time_ns() - began) / 1e3)
    return sorted(taken)[rounds // 4]


if __name__ == "__main__":
    main()
