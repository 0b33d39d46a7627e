"""A facade on a port over an engine that answers from memory, for ``ViModel`` to ask."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from facade_thread import facade
from manifests import MANIFESTS, manifest_of, publish
from vi_runs import KEY, ORGANIZATION, PHRASES, RUN

from tritonvision import AutoModel, ViModel
from tritonvision.client.vi import model as vi_model


@dataclass
class Served:
    """What ``ViModel`` asks.

    Attributes:
        engine: answers from memory.
        said: sentences that a person was told.
    """

    engine: Any
    endpoint: str
    said: list[str]

    def model(self, run_id: str = RUN, **options: Any) -> ViModel:
        given = {"secret_key": KEY, "organization_id": ORGANIZATION, "endpoint": self.endpoint}
        return ViModel(**given | {"run_id": run_id} | options)


@pytest.fixture
def served(tmp_path, monkeypatch) -> Iterator[Served]:
    root = tmp_path / "repository"
    root.mkdir()
    runs = manifest_of(RUN, "vlm", labels=()), manifest_of(PHRASES, "vlm", labels=(), asked_as="phrase-grounding")
    publish(root, [*MANIFESTS, *runs])
    said: list[str] = []
    monkeypatch.setattr(vi_model, "say", said.append)
    monkeypatch.setattr(vi_model, "_TOLD", set())
    with facade(root, KEY) as (engine, address, _):
        yield Served(engine, address, said)
        AutoModel.close()
