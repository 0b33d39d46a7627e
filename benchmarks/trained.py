"""Small trainings of true architectures, for gates that have to pass, or fail, for a real reason.

    .venv-export/bin/python benchmarks/trained.py --repository DIR --pictures FOLDER [--only shapes reader depth]

What random weights answer hangs on differences that trained ones do not build on: letters that are hardly likelier than
the next, depth that is a small rest of large sums. So bf16 and int8 are judged by these, too. Each takes minutes on one
core.

``tests/shapes/1``
    the yolov8n of the tests, which finds drawn shapes; labelled scenes go to FOLDER/shapes, for ``--gate-data``.
``tests/reader/1``
    docTR's smaller pair, both trained whole on printed pages and words of the kind that the parity gate asks about;
    pages and their words go to FOLDER/reader, for ``--gate-data``.
``tests/depth/1``
    Depth Anything V2 small, trained whole on drawn rooms; rooms with their depth go to FOLDER/depth, for
    ``--gate-data``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
import drawn_shapes  # noqa: E402

from tritonvision import catalog  # noqa: E402
from tritonvision.exporters import pipeline  # noqa: E402
from tritonvision.exporters.contract import Weights  # noqa: E402
from tritonvision.exporters.families import depth_anything_v2, doctr  # noqa: E402
from tritonvision.exporters.families.doctr import networks, synthetic  # noqa: E402
from tritonvision.exporters.libraries import torch_env  # noqa: E402
from tritonvision.exporters.modules.normalise import IMAGENET, normalised  # noqa: E402
from tritonvision.exporters.parity import text_pages  # noqa: E402
from tritonvision.python_backend.ocr import text_pixels  # noqa: E402

DETECTOR, READER, DEPTH = "yolov8n-640", "doctr-db_mobilenet_v3", "depth-anything-v2-small"
SCENES = 16  # labelled pictures of each kind


def main() -> None:
    """Train and publish what is named."""
    makers = {"shapes": shapes, "reader": reader, "depth": depth}
    parser = argparse.ArgumentParser()
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--only", nargs="*", choices=makers, default=tuple(makers))
    given = parser.parse_args()
    torch_env.import_torchvision()  # before transformers, which imports it
    torch.manual_seed(0)
    for name in given.only:
        with tempfile.TemporaryDirectory() as folder:
            model_id, weights = makers[name](Path(folder), given.pictures / name)
            user = Weights("user", path=weights)
            pipeline.export(model_id, user, given.repository, as_id=f"tests/{name}/1", force=True)
        print(f"tests/{name}/1 is published.", flush=True)


def shapes(folder: Path, pictures: Path) -> tuple[str, Path]:
    """The id of the architecture, and its trained weights in ``folder``; labelled scenes in ``pictures``."""
    drawn_shapes.labelled(pictures, SCENES)
    drawn_shapes.train(folder / "shapes.pt")
    return DETECTOR, folder / "shapes.pt"


def reader(folder: Path, pictures: Path) -> tuple[str, Path]:
    """Both networks of docTR; pages and what stands on them in ``pictures``."""
    found = doctr.FAMILY.random_network(catalog.find(READER), Weights("random")).reference()
    detector, recogniser = found[doctr.DETECTOR], found[doctr.RECOGNISER]
    _find_words(detector)
    _read_words(recogniser)
    for name, module in zip(doctr.ARCHITECTURES[READER], (detector, recogniser), strict=True):
        module.exportable = False
        torch.save(module.state_dict(), folder / f"{name}.pt")
    pictures.mkdir(parents=True, exist_ok=True)
    for seed in range(100, 100 + SCENES):
        page, words = text_pages.page_and_words(seed)
        cv2.imwrite(str(pictures / f"{seed}.png"), page[..., ::-1])
        (pictures / f"{seed}.txt").write_text(" ".join(word.text for word in words))
    return READER, folder


def _find_words(detector: torch.nn.Module, steps: int = 160, batch: int = 6, side: int = 256) -> None:
    """By the cross entropy of each pixel, in parts of pages."""
    scenes = [synthetic.scenes(seed) for seed in range(10, 18)]
    pages, targets = (np.concatenate(part) for part in zip(*scenes, strict=True))
    rng = np.random.default_rng(1)
    detector.exportable = True

    def loss() -> torch.Tensor:
        parts = []
        for scene in rng.integers(0, len(pages), batch):
            top, left = rng.integers(0, pages.shape[1] - side + 1, 2)
            part = np.s_[scene, top : top + side, left : left + side]
            parts.append((pages[part], targets[part]))
        seen, wanted = (np.stack(part) for part in zip(*parts, strict=True))
        logits = detector(networks.prepared(detector, seen))["logits"][:, 0]
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.from_numpy(wanted))

    train(detector, loss, steps, 1e-3)


def _read_words(recogniser: torch.nn.Module, steps: int = 500, batch: int = 32) -> None:
    """First by the cross entropy of each step's letter, of words that are drawn alone; then by docTR's own loss, of
    words as they stand on pages, cut out with more margin or less.
    """
    rng, stock = np.random.default_rng(1), text_pages.TEXT.split()
    cut = [one for seed in range(10, 50) for one in _words_of_page(seed)]

    def of_letters() -> torch.Tensor:
        words = [synthetic.word(stock[rng.integers(len(stock))], recogniser.vocab, rng) for _ in range(batch)]
        pixels = networks.prepared(recogniser, np.stack([picture for picture, _ in words]))
        wanted = torch.from_numpy(np.stack([said for _, said in words]))
        logits = recogniser(pixels, target=[])["logits"]
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten())

    def of_words() -> torch.Tensor:
        words = [cut[i] for i in rng.integers(0, len(cut), batch)]
        pixels = np.stack([text_pixels.fit(_some_margin(*where, rng), 32, 128, centred=False) for where, _ in words])
        return recogniser(networks.prepared(recogniser, pixels), target=[text for _, text in words])["loss"]

    recogniser.exportable = True
    train(recogniser, of_letters, steps, 2e-3)
    recogniser.exportable = False
    train(recogniser, of_words, 2 * steps, 1e-3)


def _words_of_page(seed: int) -> list[tuple[tuple[np.ndarray, tuple[int, int, int, int]], str]]:
    """Page and box of each word, and the word."""
    page, words = text_pages.page_and_words(seed)
    return [((page, word.box), word.text) for word in words]


def _some_margin(page: np.ndarray, box: tuple[int, int, int, int], rng: np.random.Generator) -> np.ndarray:
    """The word in its box, with as much around it as the detector's boxes have, in parts of its height."""
    left, top, right, bottom = box
    more = (rng.uniform(0.1, 0.7, 4) * (bottom - top)).astype(int)
    return page[max(top - more[0], 0) : bottom + more[1], max(left - more[2], 0) : right + more[3]]


def depth(folder: Path, pictures: Path, steps: int = 240) -> tuple[str, Path]:
    """Depth of rooms, by the mean difference of inverse depth; every fourth step sees one room of twice the size.
    Labelled rooms in ``pictures``.
    """
    network = depth_anything_v2.FAMILY.random_network(catalog.find(DEPTH), Weights("random")).reference()
    rng, turn = np.random.default_rng(2), iter(range(steps))

    def loss() -> torch.Tensor:
        count, scale = (1, 2) if next(turn) % 4 == 3 else (6, 1)
        rooms = [room(rng, 8 * 14 * scale, 11 * 14 * scale) for _ in range(count)]
        seen, wanted = (np.stack(side) for side in zip(*rooms, strict=True))
        return (network(normalised(seen, IMAGENET)).predicted_depth - torch.from_numpy(wanted)).abs().mean()

    train(network, loss, steps, 2e-4)
    network.save_pretrained(folder / "weights")
    pictures.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(3)
    for number in range(SCENES):
        picture, inverse = room(rng, 480, 640)
        cv2.imwrite(str(pictures / f"{number}.png"), picture[..., ::-1])
        np.save(pictures / f"{number}.npy", 1 / inverse)
    return DEPTH, folder / "weights"


def room(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A wall, a floor and things that stand on it, uint8 ``[height,width,3]``, and the inverse depth of each pixel,
    float32: 1 of the wall, growing in proportion to the rows of the floor below the horizon, as it does in perspective.
    """
    horizon = int(height * rng.uniform(0.25, 0.45))
    inverse = 1 + 5 * np.maximum(np.arange(height) - horizon, 0) / (height - horizon)
    values = np.repeat(inverse[:, None], width, 1).astype(np.float32)
    picture = np.empty((height, width, 3), np.float32)
    picture[:horizon], picture[horizon:] = rng.uniform(60, 240, 3), rng.uniform(40, 200, 3)
    for foot in sorted(rng.integers(horizon + 2, height, 5)):  # the nearer ones cover the others
        side = int(inverse[foot] * height * rng.uniform(0.06, 0.1))
        left = int(rng.integers(0, width - side // 2))
        thing = np.s_[max(foot - side, 0) : foot, left : left + side]
        picture[thing], values[thing] = rng.uniform(0, 255, 3), inverse[foot]
    return np.clip(picture + rng.normal(0, 4, picture.shape), 0, 255).astype(np.uint8), values


def train(network: torch.nn.Module, loss: Callable[[], torch.Tensor], steps: int, rate: float) -> None:
    """AdamW with a one-cycle rate over all weights, in place."""
    trained = [weight.requires_grad_() for weight in network.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    network.train()
    for step in range(steps):
        found = loss()
        optimizer.zero_grad()
        found.backward()
        torch.nn.utils.clip_grad_norm_(trained, 5)
        optimizer.step()
        schedule.step()
        if step % (steps // 8) == 0 or step == steps - 1:
            print(f"step {step}: loss {float(found.detach()):.3f}", flush=True)
    network.eval()


if __name__ == "__main__":
    main()
