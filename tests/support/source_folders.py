"""Folders that a repository is copied from, and what is in them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from manifests import manifest_of

from tritonvision.publication import MANIFEST


def publish(root: Path, model: str, graph: bytes, *, task: str = "classification", manifest_too: bool = True) -> None:
    """A model of one network and one shared step, as an export leaves it."""
    name = model.replace("/", "__")
    files = {
        f"net--{name}/1/model.onnx": graph, f"net--{name}/config.pbtxt": b"backend: 'onnxruntime'",
        "pre--letterbox/config.pbtxt": b"a step", "pre--letterbox/1/model.py": b"code",
        f"{name}/config.pbtxt": b"platform: 'ensemble'", f"{name}/1/.keep": b"",
    }  # fmt: skip
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        if not (root / path).is_file() or (root / path).read_bytes() != data:
            (root / path).write_bytes(data)
    told = replace(
        manifest_of(model, task), steps=("pre--letterbox", f"net--{name}"),
        files={f"net--{name}/1/model.onnx": hashlib.sha256(graph).hexdigest()},
    )  # fmt: skip
    if manifest_too:
        (root / name / MANIFEST).write_text(told.to_json())


def files(root: Path) -> dict[str, bytes]:
    found = (path for path in root.rglob("*") if path.is_file() and not path.name.startswith(".source"))
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in found}
