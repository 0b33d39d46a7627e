"""How often a decoder with weights in 8 or 4 bits finds the token likeliest that fp32 does: trained, and untrained.

    python benchmarks/trained_precision.py                (the export environment; 10 minutes)
    python benchmarks/trained_precision.py --steps 100    a shorter training, which learns less
    python benchmarks/trained_precision.py --keep DIR     the repository with the trained model stays there

Random weights give logits that nearly tie, and trained ones do not: what the first tell of a precision says little.
So a small network with every part of SmolVLM is trained here to read: a picture holds 16 digits in four lines, its
answer is these digits. It is exported and its decoder quantised as every model's is, and asked about pictures that it
has not seen. What counts are 200 places of answers that fp32 wrote, as in the gate of these variants; the last column
is what this gate says (``tritonvision variants add``), which may keep products in fp32.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import machine
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from tritonvision import tasks
from tritonvision.ensembles.in_process import LocalChat
from tritonvision.ensembles.published import entry_points_of, graphs_of, open_published
from tritonvision.errors import ExportFailed
from tritonvision.exporters import pipeline, variants
from tritonvision.exporters.contract import Weights
from tritonvision.exporters.families import smolvlm
from tritonvision.exporters.precision import weights
from tritonvision.publication import Repository

QUESTION = "What is in this picture?"  # that the gate asks
SIDE, CELLS, PLACES = 64, 4, 200
_SEEN = 40  # pictures by which a precision is judged as every variant is
_TEXT = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
         "intermediate_size": 384}  # fmt: skip
_VISION = {"hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 256}
_BATCH, _RATE, _WHOLE = 32, 1.5e-3, 60  # steps at the end that learn from the whole vocabulary


@dataclass(frozen=True)
class Told:
    """Of one decoder: the share of ``places`` at which it agrees with fp32, of digits that it reads, and the gate."""

    agreement: float
    places: int
    read: float
    gate: str = ""


def main() -> None:
    """Train, export, quantise, compare; print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=700, help="of the training, of 32 pictures each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where the trained model stays, as 'trained/reader'")
    options = parser.parse_args()
    network = untrained(options.seed)
    with tempfile.TemporaryDirectory(prefix="tritonvision-trained-") as folder:
        found = {"random": measured(network, Path(folder) / "random", options.seed)}
        began = time.monotonic()
        loss = train(network, options.steps, options.seed)
        print(f"Trained for {time.monotonic() - began:.0f} s, loss {loss:.4f}.", flush=True)
        found["trained"] = measured(network, options.keep or Path(folder) / "trained", options.seed)
    print(f"\n{machine.describe('torch')}; {options.steps} steps of {_BATCH} pictures, seed {options.seed}\n")
    print("| weights | decoder | agrees with fp32 | places | digits read | gate |\n|---|---|---|---|---|---|")
    for kind, decoders in found.items():
        for name, told in decoders.items():
            shares = f"{100 * told.agreement:.1f} % | {told.places} | {100 * told.read:.1f} %"
            print(f"| {kind} | {name} | {shares} | {told.gate} |")


def untrained(seed: int) -> smolvlm.SmolVLMNetwork:
    """SmolVLM with few and narrow layers and the random weights of every export, which vary with the picture."""
    config = smolvlm.config("reduced")
    for part, sizes in ((config.text_config, _TEXT), (config.vision_config, _VISION)):
        for name, value in sizes.items():
            setattr(part, name, value)
    config.text_config.head_dim = _TEXT["hidden_size"] // _TEXT["num_attention_heads"]
    return smolvlm.SmolVLMNetwork(*smolvlm.random(config, seed), f"small, seed {seed}")


def page(rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """A picture RGB uint8 ``[64,64,3]`` of 16 digits in random places of their cells, sizes and colours; the digits."""
    paper = rng.integers(150, 256, 3)
    image = Image.new("RGB", (SIDE, SIDE), tuple(paper.tolist()))
    draw, digits, cell = ImageDraw.Draw(image), rng.integers(0, 10, CELLS * CELLS), SIDE // CELLS
    for place, digit in enumerate(digits):
        row, column = divmod(place, CELLS)
        font = ImageFont.load_default(int(rng.integers(12, 16)))
        at = column * cell + rng.integers(1, 6), row * cell + rng.integers(-2, 2)
        draw.text(at, str(digit), fill=tuple(rng.integers(0, 90, 3).tolist()), font=font)
    noisy = np.asarray(image) + rng.normal(0, 6, (SIDE, SIDE, 3))
    return noisy.clip(0, 255).astype(np.uint8), "".join(map(str, digits))


def pages(seed: int) -> Iterator[tuple[np.ndarray, str]]:
    """Such pictures without an end."""
    rng = np.random.default_rng(seed)
    while True:
        yield page(rng)


def train(network: smolvlm.SmolVLMNetwork, steps: int, seed: int) -> float:
    """Teach the network to answer with the digits of a picture; the loss of the last steps, in nats a token.

    All but the last steps compare the words that its tokenizer knows: with all 49,280 a step takes three times as long.
    """
    model, processor = network._model, network._processor
    tokenizer, source = processor.tokenizer, pages(1000 + seed)
    said = torch.tensor(sorted({*tokenizer.get_vocab().values()}))
    end = model.generation_config.eos_token_id
    blank = Image.fromarray(np.zeros((SIDE, SIDE, 3), np.uint8))
    asked = processor.apply_chat_template(tasks.about_picture(QUESTION), add_generation_prompt=True)
    (prompt,) = processor(text=[asked], images=[[blank]], do_image_splitting=False)["input_ids"]
    ends = [end] if isinstance(end, int) else [end[0]]
    optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps, pct_start=0.1)
    model.train()
    losses = []
    for step in range(steps):
        batch = [next(source) for _ in range(_BATCH)]
        answers = [tokenizer.encode(text, add_special_tokens=False) + ends for _, text in batch]
        longest = max(map(len, answers))
        ids = torch.tensor([[*prompt, *answer, *ends * (longest - len(answer))] for answer in answers])
        mask = torch.tensor([[1] * len(answer) + [0] * (longest - len(answer)) for answer in answers], dtype=torch.bool)
        pixels = torch.from_numpy(np.stack([picture for picture, _ in batch])).permute(0, 3, 1, 2) / 127.5 - 1
        hidden = model.model(input_ids=ids, pixel_values=pixels[:, None], use_cache=False).last_hidden_state
        hidden, wanted = hidden[:, len(prompt) - 1 : -1][mask], ids[:, len(prompt) :][mask]
        if step < steps - _WHOLE:
            logits, wanted = hidden @ model.lm_head.weight[said].T, torch.searchsorted(said, wanted)
        else:
            logits = model.lm_head(hidden)
        loss = torch.nn.functional.cross_entropy(logits, wanted)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % 50 == 0:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)
    model.eval().requires_grad_(True)
    return float(np.mean(losses[-20:]))


def measured(network: smolvlm.SmolVLMNetwork, folder: Path, seed: int) -> dict[str, Told]:
    """Export the network through the gate of every export, quantise its decoder, and compare."""
    network.save(folder / "weights")
    repository = folder / "models"
    given = Weights("user", folder / "weights")
    manifest = pipeline.export("smolvlm-256m", given, repository, as_id="trained/reader")
    published = Repository(repository).resolve(manifest.id)
    graph = graphs_of(repository, published, entry_points_of(repository, published))["decoder"]
    fp32 = open_published(repository, published)[""]
    answers, source, count = [], pages(5000 + seed), 0
    seen = folder / "pictures"
    seen.mkdir()
    for number in range(_SEEN):  # the gate keeps some of them for its own questions
        Image.fromarray(next(source)[0]).save(seen / f"{number:02}.png")
    while count < PLACES:
        picture, text = next(source)
        sample = {"messages": tasks.about_picture(QUESTION, tasks.LOW), "pictures": [picture]}
        written = fp32(sample, {"max_new_tokens": 100})["token_ids"].tolist()
        answers.append((sample, text, written))
        count += len(written)
    found = {"fp32": compared(fp32, answers)}
    for precision in weights.BITS:
        file = folder / f"{precision}.onnx"
        weights.write(graph, file, precision)
        other = open_published(repository, published, files={"decoder": file})[""]
        found[precision] = replace(compared(other, answers), gate=judged(repository, manifest.id, precision, seen))
        other.close()
    fp32.close()
    return found


def judged(repository: Path, model: str, precision: str, pictures: Path) -> str:
    """What the gate of variants says of a decoder in that precision; where it passes, it is published."""
    try:
        manifest = variants.add(repository, model, "onnxruntime", precision, calibrate=pictures)
    except ExportFailed as refused:
        return f"refused: {refused.message}"
    added = variants.find(manifest, f"onnxruntime-{precision}")
    return f"published, {100 * added.figures['argmax']:.1f} %, {len(added.kept_fp32)} products in fp32"


def compared(local: LocalChat, answers: Sequence[tuple[dict, str, list[int]]]) -> Told:
    """One decoder against what fp32 wrote, and what it reads itself.

    Args:
        answers: what was asked, what stands in the picture, and fp32's tokens.
    """
    same = count = right = 0
    for sample, text, written in answers:
        likeliest = local.likeliest(sample, written)
        same, count = same + sum(a == b for a, b in zip(likeliest, written, strict=True)), count + len(written)
        (said,) = local(sample, {"max_new_tokens": 24})["text"]
        right += sum(a == b for a, b in zip(said, text, strict=False))
    return Told(same / count, count, right / sum(len(text) for _, text, _ in answers))


if __name__ == "__main__":
    main()
