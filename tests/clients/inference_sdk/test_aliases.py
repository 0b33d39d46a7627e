"""The client writes other names than people type: each of them means the same model here."""

from __future__ import annotations

import json
from pathlib import Path

from inference_sdk.http.utils.aliases import REGISTERED_ALIASES

CATALOGUE = Path(__file__).parents[3] / "tritonvision" / "data" / "catalogue.json"


def test_what_the_client_writes_for_a_name_is_that_model_in_the_catalogue():
    names = {}
    for model in json.loads(CATALOGUE.read_text())["models"]:
        for name in (model["id"], *model["aliases"]):
            assert names.setdefault(name, model["id"]) == model["id"], f"{name} means two models"
    shared = {typed: written for typed, written in REGISTERED_ALIASES.items() if typed in names or written in names}
    assert len(shared) > 50
    assert {typed: names.get(written) for typed, written in shared.items()} == {
        typed: names.get(typed) for typed in shared
    }
