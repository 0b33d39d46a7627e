"""A JPEG of 12 megapixels to letterboxed pixels: as the pre step decodes it, and by OpenCV, in alternating turns.

    python benchmarks/jpeg.py [--rounds 15] [--size 640]

Milliseconds are processor time of one thread. What is compared of the pixels is the letterboxed picture.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import cv2
import machine
import numpy as np
import pictures

from tritonvision.pictures import decode
from tritonvision.python_backend.images import resize

WIDTH, HEIGHT = 4000, 3000


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--size", type=int, default=640)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    (jpeg,) = pictures.jpegs(1, WIDTH, HEIGHT)
    decoders: dict[str, Callable[[bytes], np.ndarray]] = {"OpenCV": by_opencv, "pre step": decode}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in decoders}
    found = {}
    for _ in range(given.rounds):
        for name, decoder in decoders.items():
            began = time.process_time()
            picture = decoder(jpeg)
            decoded = time.process_time()
            found[name] = resize.letterbox(picture, given.size, given.size)[0]
            taken[name].append((decoded - began, time.process_time() - decoded))
    about = f"{WIDTH} x {HEIGHT}, {len(jpeg) / 1e6:.1f} MB, letterboxed to {given.size}"
    print(f"{machine.describe('simplejpeg')}; {about}\n")
    print("| decoder | decode, ms | letterbox, ms | together, ms | times as fast | pixels that differ | by at most |")
    print("|---|---|---|---|---|---|---|")
    medians = {name: [1000 * statistics.median(part) for part in zip(*taken[name], strict=True)] for name in taken}
    for name, (reading, fitting) in medians.items():
        apart = np.abs(found[name].astype(int) - found["OpenCV"].astype(int))
        times = sum(medians["OpenCV"]) / (reading + fitting)
        print(
            f"| {name} | {reading:.1f} | {fitting:.1f} | {reading + fitting:.1f} | {times:.2f} "
            f"| {(apart > 0).mean():.2%} | {apart.max()} |"
        )


def by_opencv(jpeg: bytes) -> np.ndarray:
    """RGB pixels, as ``cv2`` is used to read them."""
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


if __name__ == "__main__":
    main()
