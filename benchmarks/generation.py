"""What generating text costs, in one process: the loop around the decoder, a schema, eight answers at once, a second
question about a picture, a decoder with weights in fewer bits, and the vision tower in bf16.

What is compared takes turns, so that a machine that is busy for a moment is so for both; of each the median counts.

    python benchmarks/generation.py --repository DIR     (smolvlm-256m published there; random weights will do)
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import machine
import numpy as np
import onnxruntime

from tritonvision import tasks
from tritonvision.ensembles.in_process import LocalChat
from tritonvision.ensembles.published import assets_of, entry_points_of, graphs_of, open_published
from tritonvision.exporters.precision import decoding
from tritonvision.exporters.precision import weights as fewer_bits
from tritonvision.exporters.precision.gate import Imprecise
from tritonvision.grounding import florence
from tritonvision.publication import Manifest, Repository
from tritonvision.python_backend.generation.engines import open_engine
from tritonvision.python_backend.runtime.engines import open_network
from tritonvision.python_backend.runtime.sessions import Sessions

TEXT = "Say in a few words what a person who has never seen the sea would have to be told about it. " * 3
NUMBERS = {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 999}, "minItems": 500}
SCHEMAS: tuple[dict[str, Any], ...] = (
    {"type": "integer", "minimum": -5, "maximum": 120},
    {"enum": ["yes", "no", None, 3]},
    {"type": "string", "format": "date"},
    {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"},
    {"type": "string", "maxLength": 12},
    {"type": "object", "properties": {"label": {"type": "string", "maxLength": 8}, "sure": {"type": "boolean"}},
     "required": ["label", "sure"], "additionalProperties": False},
    {"type": "array", "items": {"type": "number", "minimum": 0, "maximum": 1, "multipleOf": 0.25}, "maxItems": 4},
    {"anyOf": [{"type": "boolean"}, {"type": "array", "items": {"enum": ["cat", "dog"]}, "maxItems": 3}]},
    {"$defs": {"side": {"type": "integer", "minimum": 1, "maximum": 64}}, "type": "object",
     "properties": {"w": {"$ref": "#/$defs/side"}, "h": {"$ref": "#/$defs/side"}}, "required": ["w", "h"],
     "additionalProperties": False},
    {"type": "object", "properties": {"page": {"type": "object", "properties": {
        "lines": {"type": "array", "items": {"type": "string", "maxLength": 5}, "maxItems": 2}},
        "required": ["lines"], "additionalProperties": False}}, "required": ["page"], "additionalProperties": False},
)  # fmt: skip


def main() -> None:
    """Measure and print Markdown."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--model", default="smolvlm-256m")
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--answers", type=int, default=1000, help="by schemas")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=[*PARTS])
    options = parser.parse_args()
    manifest = Repository(options.repository).resolve(options.model)
    print(f"{machine.describe('onnxruntime')}; {manifest.id}, {manifest.weights} weights\n")
    for part in options.parts:
        PARTS[part](manifest, options)
        print(flush=True)


def opened(manifest: Manifest, options: argparse.Namespace) -> Any:
    """The model as it was exported, with the sessions that Triton's process opens."""
    (point,) = entry_points_of(options.repository, manifest)
    files = graphs_of(options.repository, manifest, (point,))
    assets = assets_of(options.repository, manifest, point)
    return open_engine(Sessions(files), point.module, dict(point.options), assets)


def asks(text: str, pictures: int = 0) -> list[dict[str, Any]]:
    """One message of the user's."""
    return [{"role": "user", "content": [*[{"type": "image"}] * pictures, {"type": "text", "text": text}]}]


def settings(**given: Any) -> dict[str, Any]:
    """Every setting of the task."""
    return tasks.resolve(tasks.VLM.parameters, given)


def loop(manifest: Manifest, options: argparse.Namespace) -> None:
    """Milliseconds a token: of the loop, of the loop under a schema, and of the bare decoder."""
    engine = opened(manifest, options)
    found: dict[str, list[float]] = {"loop": [], "loop, JSON by a schema": [], "decoder alone": []}
    prompt = 0
    for _ in range(options.rounds):
        for name, schema in (("loop", None), ("loop, JSON by a schema", NUMBERS)):
            times = []
            for delta in engine.talk(asks(TEXT), [], settings(max_new_tokens=options.tokens, schema=schema)):
                times.append((delta.usage[1], time.perf_counter()))
                prompt = delta.usage[0]
            (first, began), (count, ended) = times[0], times[-1]
            found[name].append((ended - began) / (count - first) * 1000)
        step, began = engine.steps(prompt), 0.0
        for number in range(options.tokens):
            next(step)
            if number == 0:
                began = time.perf_counter()
        found["decoder alone"].append((time.perf_counter() - began) / (options.tokens - 1) * 1000)
    engine.close()
    alone = statistics.median(found["decoder alone"])
    print(f"| one answer of {options.tokens} tokens behind {prompt} | ms a token | over the decoder |\n|---|---|---|")
    for name, values in found.items():
        print(f"| {name} | {statistics.median(values):.2f} | {statistics.median(values) / alone - 1:+.1%} |")


def streams(manifest: Manifest, options: argparse.Namespace) -> None:
    """Tokens a second of one answer, and of eight at once; of Florence-2 about one picture, which is encoded before."""
    engine, rates = opened(manifest, options), {1: [], 4: [], 8: []}  # type: ignore[var-annotated]
    searches = manifest.grounding == florence.NAME
    picture = np.random.default_rng(0).integers(0, 256, (768, 768, 3), dtype=np.uint8)
    if searches:
        [*engine.talk(asks("<OD>", 1), [picture], settings(max_new_tokens=1))]
    for number in range(options.rounds):
        for callers, found in rates.items():
            counts: list[int] = []

            def ask(which: int, counts: list[int] = counts, number: int = number) -> None:
                asked = asks("<OD>", 1) if searches else asks(f"{which} {number} {TEXT}")
                given = settings(max_new_tokens=options.tokens)
                said = [*engine.talk(asked, [picture] if searches else [], given)]
                counts.append(said[-1].usage[1])

            threads = [threading.Thread(target=ask, args=(which,)) for which in range(callers)]
            began = time.perf_counter()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            found.append(sum(counts) / (time.perf_counter() - began))
    engine.close()
    one = statistics.median(rates[1])
    print("| answers at once | tokens/s | against one |\n|---|---|---|")
    for callers, found in rates.items():
        print(f"| {callers} | {statistics.median(found):.1f} | {statistics.median(found) / one:.2f} |")


def prefix(manifest: Manifest, options: argparse.Namespace) -> None:
    """Seconds to the first token of a first and of a second question about a picture."""
    engine, rows = opened(manifest, options), []
    picture = np.random.default_rng(0).integers(0, 256, (1200, 1600, 3), dtype=np.uint8)
    for text in ("What is this?", "Which colours has it?", "How many people are there?"):
        began, first = time.perf_counter(), 0.0
        for delta in engine.talk(asks(text, 1), [picture], settings(max_new_tokens=4)):
            first = first or time.perf_counter() - began
            last = delta
        rows.append((text, first, last.usage[0], last.cached_tokens))
    engine.close()
    print("| question about one picture | seconds to the first token | tokens | not read again | against the first |")
    print("|---|---|---|---|---|")
    for text, seconds, tokens, cached in rows:
        print(f"| {text} | {seconds:.2f} | {tokens} | {cached} | 1/{rows[0][1] / seconds:.0f} |")


def schemas(manifest: Manifest, options: argparse.Namespace) -> None:
    """Sampled answers by ten schemas, and how many are valid."""
    import jsonschema_rs

    engine, valid, cut = opened(manifest, options), 0, 0
    for number in range(options.answers):
        schema = SCHEMAS[number % len(SCHEMAS)]
        given = settings(max_new_tokens=200, temperature=1.0, seed=number, schema=schema)
        said = [*engine.talk(asks(f"Number {number % 7}."), [], given)]
        text = "".join(delta.text for delta in said)
        cut += said[-1].finish_reason == "length"
        valid += said[-1].finish_reason == "stop" and _is_valid(jsonschema_rs.is_valid, schema, text)
    engine.close()
    print(f"{options.answers} sampled answers to {len(SCHEMAS)} schemas: {valid} valid, {cut} cut by max_tokens.")


def _is_valid(check: Callable[[Mapping[str, Any], Any], bool], schema: Mapping[str, Any], text: str) -> bool:
    try:
        return check(schema, json.loads(text))
    except ValueError:
        return False


def weights(manifest: Manifest, options: argparse.Namespace) -> None:
    """Tokens a second of the decoder: in fp32, and with weights in fewer bits. Whether these are good enough to be
    published is for the gate to say, which takes the share of places at which both find the same token likeliest.
    """
    local, graphs = open_published(options.repository, manifest)[""], networks(manifest, options)
    assert isinstance(local, LocalChat)
    trial = decoding.Trial(local)
    print("| decoder | tokens/s | of fp32 beside it | against it | MB | argmax |\n|---|---|---|---|---|---|")
    for precision in fewer_bits.BITS:
        with tempfile.TemporaryDirectory(dir=options.repository) as folder:
            file = Path(folder) / "decoder.onnx"
            fewer_bits.write(graphs["decoder"], file, precision)
            other = open_published(options.repository, manifest, files={"decoder": file})[""]
            assert isinstance(other, LocalChat)
            base, taken = decoding.milliseconds(local, other)
            try:
                (argmax,) = trial.check(other, precision).figures.values()
            except Imprecise as missed:
                argmax = missed.findings[0].value
            other.close()
            size = sum(part.stat().st_size for part in Path(folder).iterdir()) / 1e6
        told = f"{1000 / taken:.1f} | {1000 / base:.1f} | {base / taken:.2f} | {size:.0f} | {argmax:.3f}"
        print(f"| {precision} | {told} |")
    local.close()


def vision(manifest: Manifest, options: argparse.Namespace) -> None:
    """Seconds that the vision tower takes for one view: on ONNX Runtime in fp32, on OpenVINO in bf16."""
    graph = networks(manifest, options)["vision"]
    kinds = {"ONNX Runtime fp32": ("onnxruntime", "fp32"), "OpenVINO bf16": ("openvino", "bf16")}
    opened = {name: open_network(graph, *kind) for name, kind in kinds.items()}
    (pixels,) = onnxruntime.InferenceSession(graph).get_inputs()
    shape = [size if isinstance(size, int) else 1 for size in pixels.shape]
    view = {pixels.name: np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)}
    found: dict[str, list[float]] = {name: [] for name in opened}
    for _ in range(options.rounds + 1):
        for name, session in opened.items():
            began = time.perf_counter()
            session.run(["image_embeds"], view)
            found[name].append(time.perf_counter() - began)
    seconds = {name: statistics.median(values[1:]) for name, values in found.items()}
    first, second = seconds.values()
    print("| vision tower, one view | s | times as fast |\n|---|---|---|")
    print(f"| ONNX Runtime fp32 | {first:.2f} | 1 |\n| OpenVINO bf16 | {second:.2f} | {first / second:.2f} |")


def networks(manifest: Manifest, options: argparse.Namespace) -> Mapping[str, Path]:
    """The graphs of the model as it was exported, by role."""
    points = entry_points_of(options.repository, manifest)
    return graphs_of(options.repository, manifest, points)


PARTS: dict[str, Callable[[Manifest, argparse.Namespace], None]] = {
    "loop": loop, "streams": streams, "prefix": prefix, "schemas": schemas, "weights": weights,
    "vision": vision,
}  # fmt: skip

if __name__ == "__main__":
    main()
