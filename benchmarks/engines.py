"""Processor time of each network with each engine and precision, on one thread, and the error of its outputs.

    python benchmarks/engines.py --repository DIR [--rounds 10] [--only NAME ...]

Every network below DIR runs on the photo with ONNX Runtime in fp32, with OpenVINO in fp32, in bf16 where the processor
supports it, and in int8 where such a file lies beside the graph: alternating in one process, one picture at a time.
Networks with a text axis are skipped, because decoders stay on ONNX Runtime. Processor time hardly depends on other
processes of the machine; the lower quartile of all rounds is printed. The error is the root mean square of the
difference divided by that of ONNX Runtime's output, for the output with the largest one; for detectors it is that of
the scores, because boxes in another order differ completely.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import machine
import numpy as np

from tritonvision.machine import why_not
from tritonvision.python_backend.runtime.engines import NetworkSession, open_network

PHOTO = Path(__file__).parents[1] / "tritonvision" / "data" / "astronaut.png"
INT8 = "openvino-int8"
OPEN = {"height": 518, "width": 518, "points": 2}  # lengths used for dynamic axes


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--only", nargs="*", default=[])
    options = parser.parse_args()
    load = ", ".join(f"{value:.0f}" for value in os.getloadavg())
    print(f"{machine.describe('openvino')}; one thread; load of the machine {load}\n")
    print("| network | ONNX Runtime fp32 | OpenVINO fp32 | bf16 | int8 | off: fp32 | bf16 | int8 |")
    print("|---|---|---|---|---|---|---|---|")
    for graph in sorted(options.repository.glob("*/1/*.onnx")):
        name = graph.parents[1].name + ("" if graph.stem == "model" else f", {graph.stem}")
        if options.only and not any(part in name for part in options.only):
            continue
        reference: Any = open_network(graph, threads=1)
        axes = {dim for given in reference.get_inputs() for dim in given.shape[1:] if not isinstance(dim, int)}
        if axes <= set(OPEN):
            print(row(name, graph, reference, options.rounds), flush=True)


def row(name: str, graph: Path, reference: Any, rounds: int) -> str:
    """One row of the table: milliseconds with ONNX Runtime, speed-up of the others, and errors."""
    outputs = [output.name for output in reference.get_outputs()]
    inputs = {given.name: example(given) for given in reference.get_inputs()}
    networks: dict[str, NetworkSession] = {"": reference}
    for precision in ("fp32", "bf16", "int8"):
        int8 = graph.with_name(INT8 + (".xml" if graph.stem == "model" else f"--{graph.stem}.xml"))
        file = int8 if precision == "int8" else graph
        if file.is_file() and not why_not("openvino", precision):
            networks[precision] = open_network(file, "openvino", precision, threads=1)
    answers = {key: network.run(outputs, inputs) for key, network in networks.items()}
    milliseconds = timed(networks, outputs, inputs, rounds)
    cells = [f"{milliseconds['']:.1f} ms"]
    cells += [_ratio(milliseconds, precision) for precision in ("fp32", "bf16", "int8")]
    scores = [i for i, output in enumerate(outputs) if output == "scores"] or range(len(outputs))
    for precision in ("fp32", "bf16", "int8"):
        found = answers.get(precision)
        cells.append(f"{max(off_by(found[i], answers[''][i]) for i in scores):.0e}" if found else "-")
    return f"| {name.removeprefix('net--')} | {' | '.join(cells)} |"


def example(given: Any) -> np.ndarray:
    """An input: the photo for three channels, token ids for integers, otherwise noise."""
    kind, dims = given.type, [1, *(OPEN.get(dim, dim) for dim in given.shape[1:])]
    if given.name == "valid_size":
        return np.full(dims, 1024, dtype=np.int32)
    if len(dims) == 4 and dims[3] == 3:
        picture = cv2.resize(cv2.imread(str(PHOTO))[..., ::-1], (dims[2], dims[1]), interpolation=cv2.INTER_AREA)
        return np.ascontiguousarray(picture[None]).astype(np.uint8 if "uint8" in kind else np.float32)
    rng = np.random.default_rng(0)
    if "int" in kind:
        return rng.integers(1, 50, dims).astype(kind.removeprefix("tensor(").removesuffix(")"))
    return np.ones(dims, dtype=bool) if "bool" in kind else rng.standard_normal(dims).astype(np.float32)


def timed(
    networks: Mapping[str, NetworkSession], outputs: list[str], inputs: Mapping[str, np.ndarray], rounds: int
) -> dict[str, float]:
    """Milliseconds of processor time of each network for ``inputs``, alternating; three rounds for slow ones."""
    taken: dict[str, list[float]] = {key: [] for key in networks}
    for done in range(rounds):
        if done >= 3 and sum(map(sum, taken.values())) > 10_000:
            break
        for key, network in networks.items():
            began = time.process_time()
            network.run(outputs, inputs)
            taken[key].append((time.process_time() - began) * 1000)
    return {key: sorted(values)[len(values) // 4] for key, values in taken.items()}


def off_by(found: np.ndarray, expected: np.ndarray) -> float:
    """Root mean square of ``found - expected``, relative to that of ``expected``."""
    if expected.dtype.kind != "f":
        return 0.0
    with np.errstate(invalid="ignore", divide="ignore"):
        difference = np.sqrt(np.mean(np.square((found - expected).astype(np.float64))))
        return float(difference / np.sqrt(np.mean(np.square(expected.astype(np.float64)))))


def _ratio(milliseconds: Mapping[str, float], precision: str) -> str:
    return f"{milliseconds[''] / milliseconds[precision]:.2f}" if precision in milliseconds else "-"


if __name__ == "__main__":
    main()
