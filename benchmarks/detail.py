"""What the ``detail`` of a picture saves: seconds to the first token about one view of it, and about all its tiles.

In this process, by the published model's own steps: the picture is cut, encoded, and read with the prompt. Every round
has another picture, so that no encoding is kept; the two alternate, and what counts is their ratio.

    python benchmarks/detail.py --repository DIR     (smolvlm-256m published there; random weights will do)
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import generation
import machine
import numpy as np
from PIL import Image

from tritonvision import tasks
from tritonvision.publication import Repository
from tritonvision.python_backend.generation.answering import Engine

PHOTO = Path(__file__).parents[1] / "tritonvision" / "data" / "astronaut.png"
SIZE = (1536, 1536)  # width, height: over one tile of every family


def main() -> None:
    """Measure and print Markdown."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--model", default="smolvlm-256m")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    engine = generation.opened(Repository(options.repository).resolve(options.model), options)
    photo = np.asarray(Image.open(PHOTO).convert("RGB").resize(SIZE))
    found: dict[str, list[tuple[float, int]]] = {"low": [], "high": []}
    try:
        for number in range(options.rounds + 1):
            for detail, times in found.items():
                picture = photo.copy()
                picture[: 64 * (number + 1), :64] = 255 * (detail == "low")
                times.append(first_token(engine, picture, detail))
    finally:
        engine.close()
    print(f"{machine.describe('tokenizers')}; {options.model}, a picture of {SIZE[0]} x {SIZE[1]}\n")
    print("| detail | tokens of the prompt | s to the first token | against high |\n|---|---|---|---|")
    seconds = {detail: statistics.median(taken for taken, _ in times[1:]) for detail, times in found.items()}
    for detail, taken in seconds.items():
        print(f"| {detail} | {found[detail][0][1]} | {taken:.2f} | {seconds['high'] / taken:.1f} times sooner |")


def first_token(engine: Engine, picture: np.ndarray, detail: str) -> tuple[float, int]:
    """Seconds from the request to the first token of the answer, and the tokens of its prompt."""
    settings = tasks.resolve(tasks.VLM.parameters, {"max_new_tokens": 1})
    began = time.perf_counter()
    (delta,) = engine.talk(tasks.about_picture("What is in this picture?", detail), [picture], settings)
    return time.perf_counter() - began, delta.usage[0]


if __name__ == "__main__":
    main()
