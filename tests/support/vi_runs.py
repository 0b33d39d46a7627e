"""What ``ViModel`` is made with in the tests, as its document prints it, and the place where it finds that."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

KEY, RUN, PHRASES = "your-secret-key", "your-run-id", "your-grounding-run"
ORGANIZATION = "your-organization-id"
MODEL = "tests/small-vlm/1"


@contextmanager
def at_place(publish_as: Callable[[Path, str, str], None], root: Path, pictures: Sequence[str]) -> Iterator[Path]:
    """Within the block the folder ``root`` is where tests run; it has the pictures, and a repository with the runs."""
    from PIL import Image

    from tritonvision import AutoModel

    for name in (RUN, PHRASES):
        publish_as(root / "repository", MODEL, name)
    manifest = root / "repository" / PHRASES / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"asked_as": "phrase-grounding"}))
    for name in pictures:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (90, 60), (len(name) * 9, 90, 30)).save(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITONVISION_REPOSITORY", str(root / "repository"))
        for name in ("TRITONVISION_SERVER", "DATATURE_VI_API_ENDPOINT"):
            patch.delenv(name, raising=False)
        patch.chdir(root)
        yield root
    AutoModel.close()
