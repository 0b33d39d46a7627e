"""Revisions and hashes of official weights: those pinned, and those recorded where none is pinned.

A release can be replaced under its name. What the figures of the parity gate were found with is a revision of a
repository on the hub, whose files never change, or a file with its SHA-256.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from tritonvision.errors import ExportFailed

ULTRALYTICS = "ultralytics/assets"  # release v8.4.0; its weights have kept their bytes since they came out


@dataclass(frozen=True)
class Pin:
    """The pins of a source of weights.

    Attributes:
        revision: commit of a repository on the hub, or empty.
        sha256: of files by name.
    """

    revision: str = ""
    sha256: Mapping[str, str] = field(default_factory=dict)


PINS: Mapping[str, Pin] = {
    "facebook/detr-resnet-50": Pin("1d5f47bd3bdd2c4bbfa585418ffe6da5028b4c0b"),
    "facebook/sam-vit-base": Pin("70c1a07f894ebb5b307fd9eaaee97b9dfc16068f"),
    "IDEA-Research/grounding-dino-tiny": Pin(
        "a2bb814dd30d776dcf7e30523b00659f4f141c71",
        {"model.safetensors": "1a2412ef99bd74bcd3c2a246fa1e48581f8889a1300c9051974741314fc042f3"},
    ),
    "IDEA-Research/grounding-dino-base": Pin(
        "12bdfa3120f3e7ec7b434d90674b3396eccf88eb",
        {"model.safetensors": "5548f844c928c4b6f411fa8cbcc2bfa8dbbba437cb1d513975519f93c2a9ed21"},
    ),
    "depth-anything/Depth-Anything-V2-Small-hf": Pin("5426e4f0f36572d16453bbda7a8389317b1bef99"),
    "microsoft/trocr-base-printed": Pin("93450be3f1ed40a930690d951ef3932687cc1892"),
    "HuggingFaceTB/SmolVLM2-256M-Video-Instruct": Pin("067788b187b95ebe7b2e040b3e4299e342e5b8fd"),
    "vikhyatk/moondream2": Pin("9a7d4024050840e001defacec2b00727e89149e6"),  # its tag 2025-06-21
    "moondream/starmie-v1": Pin("35192e10a54e36eabe0a7cc57a2c1aab371cafc5"),
    "timm/resnet50.a1_in1k": Pin("767268603ca0cb0bfe326fa87277f19c419566ef"),
    "timm/vit_base_patch32_clip_224.openai": Pin("a6f597a30f7b82c51704746581f9a4e41421e878"),
    ULTRALYTICS: Pin(sha256={
        "yolov8n.pt": "f59b3d833e2ff32e194b5bb8e08d211dc7c5bdf144b90d2c8412c47ccfc83b36",
        "yolov8s.pt": "1f47a78bf100391c2a140b7ac73a1caae18c32779be7d310658112f7ac9aa78a",
        "yolov8m.pt": "5d4a90cdc7a21786cc59cd19778e9eafff836df9e2da32524737c7ee6efe4fe5",
        "yolov8l.pt": "64c9115303f6a25575f82200d1b22ec409fa6bd7d08d0313884fc20d919478cd",
        "yolov8x.pt": "3df4ada6b4dad6d657868f2fdf7faecfb34dcfccf3a25c4b82079064718524c8",
        "yolov8n-seg.pt": "a7cd8f929e1903d78a12a48efecab430209f18dc46cb96c3599a5980c63c423c",
        "yolov8s-seg.pt": "0bac0770b55e5eb5b76a61bc535673288dcec36c2bc0cd25ee0d584c632f3413",
        "yolov8m-seg.pt": "51fa7e5ef385efa6d5b1d8e31b73399be6ed5d7ca71bda4bd4b2794bb445c4f4",
        "yolov8l-seg.pt": "ca3ec94c445aeaf79c2b57982fb451060f18a7561e2c20b4d26bb9dc1fcabf93",
        "yolov8x-seg.pt": "c333d6a7aff884ec821050eacdab29871f3edd10d996cf48746a02f8e01f1b5d",
        "yolo11n.pt": "0ebbc80d4a7680d14987a577cd21342b65ecfd94632bd9a8da63ae6417644ee1",
        "yolo11s.pt": "85a76fe86dd8afe384648546b56a7a78580c7cb7b404fc595f97969322d502d5",
        "yolo11m.pt": "d5ffc1a674953a08e11a8d21e022781b1b23a19b730afc309290bd9fb5305b95",
        "yolo11l.pt": "9ebd0e09d59811db4b1d61e2bc6730649608b1ac47f8dd01e2da6bca7c20023f",
        "yolo11x.pt": "7bc158aa95c0ebfdd87f70f01653c1131b93e92522dbe15c228bcd742e773a24",
        "yolo11n-seg.pt": "55ed65c56c91713d23e8402371c6c49a6fd84f257f7dce452e8d70e41dcbe152",
        "yolo11s-seg.pt": "1caa81c0195412efa411b632bcfb8c184939dddb6ae41f6a80c41b211ff257c3",
        "yolo11m-seg.pt": "eb9a06f63e2206c35d68d839b08c362429ebecf933ad54c1ad68b2fd001c17cf",
        "yolo11l-seg.pt": "cabe90049795dfc9a370b7934d6dec7f6b9e44a20e573b0ff81b7e205512c872",
        "yolo11x-seg.pt": "4e53a5f5fd3ee2ae3361c62169c6bb3ed4ae251dd0e57606e230955aa52d919c",
    }),
}  # fmt: skip


@dataclass(frozen=True)
class Fetched:
    """A file that was taken: its source, its revision there if it has one, and whether both were known before."""

    source: str
    revision: str
    pinned: bool


_RECORD: ContextVar[list[Fetched] | None] = ContextVar("official weights taken", default=None)


@contextmanager
def recorded() -> Iterator[list[Fetched]]:
    """Records the files fetched within the block. All files of one source are of one revision, that of the first."""
    record: list[Fetched] = []
    token = _RECORD.set(record)
    try:
        yield record
    finally:
        _RECORD.reset(token)


def revision_of(source: str) -> str | None:
    """The revision to fetch: the pinned one, that of the last file of ``source``, or None for any."""
    taken = [found.revision for found in _RECORD.get() or () if found.source == source]
    return PINS.get(source, Pin()).revision or next(iter(taken), "") or None


def take(source: str, path: Path, revision: str = "") -> Path:
    """``path``, which was fetched from ``source``, when it has the bytes that are pinned, if any are.

    Raises:
        ExportFailed: it has others.
    """
    pin = PINS.get(source, Pin())
    expected = pin.sha256.get(path.name)
    if expected:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != expected:
            raise ExportFailed(
                f"{path.name} of {source} is not the file that is pinned: its SHA-256 is {found}, not {expected}.",
                hint="Fetch it again: it may be cut short. If you trust it as it is, name it with --weights PATH.",
            )
    record = _RECORD.get()
    if record is not None:
        record.append(Fetched(source, revision, bool(expected or pin.revision)))
    return path


def notes(record: Sequence[Fetched]) -> tuple[str, ...]:
    """A sentence for the manifest about each source of which neither revision nor hash was known before."""
    loose = dict.fromkeys((found.source, found.revision) for found in record if not found.pinned)
    return tuple(
        f"The official weights of {source} are not pinned; what was there"
        + (f" at revision {revision}" if revision else "")
        + " has been taken, and its SHA-256 is recorded."
        for source, revision in loose
    )
