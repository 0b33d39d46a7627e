"""Published models in this process, for exports of models that depend on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tritonvision import catalog
from tritonvision.ensembles import model_configs
from tritonvision.ensembles.in_process import Ask, LocalChat, open_entry_point
from tritonvision.errors import ExportFailed
from tritonvision.exporters import registry
from tritonvision.pictures import decode
from tritonvision.publication import Repository


def needed(repository: Path, model_id: str) -> Ask:
    """A function that runs the published model ``model_id`` on one encoded picture.

    Raises:
        ExportFailed: it is not published in ``repository``.
    """
    manifest = Repository(repository).get(model_id)
    if manifest is None:
        raise ExportFailed(
            f"This model asks '{model_id}', which is not published here.",
            hint=f"Publish it first: tritonvision export {model_id}",
        )
    point = registry.find(manifest.family).entry_points(catalog.find(model_id))[0]
    name = manifest.triton_name
    graphs = {net.role: repository / model_configs.net_name(name, net.role) / "1" / "model.onnx" for net in point.nets}
    pipeline = open_entry_point(graphs, point)
    assert not isinstance(pipeline, LocalChat), "no model asks one that writes"

    def ask(inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> dict[str, np.ndarray]:
        picture = decode(inputs["image"].reshape(-1)[0])
        found = pipeline(picture, _settings(inputs))
        found["image_size"] = np.array(picture.shape[:2], dtype=np.int32)
        return {name: found[name][None] for name in outputs}

    return ask


def _settings(inputs: Mapping[str, np.ndarray]) -> dict:
    import json

    if "parameters" not in inputs:
        return {}
    return json.loads(inputs["parameters"].reshape(-1)[0])
