"""A file to import, and its import in this process."""

import pytest
from onnx_files import ID, described

from tritonvision.ensembles.in_process import LocalPipeline
from tritonvision.exporters.packages import import_package
from tritonvision.exporters.packages.options import FileOptions
from tritonvision.exporters.packages.pipeline import PackageFamily


@pytest.fixture
def file(tmp_path):
    return tmp_path / "best.onnx"


@pytest.fixture
def published(file, tmp_path):
    """Publishes the file and returns its manifest and the published model, run in this process."""

    def published(**options):
        root = tmp_path / "repository"
        manifest, fresh = import_package(file, ID, root, options=FileOptions(**options))
        assert fresh
        family = PackageFamily(described(file, **options))
        return manifest, LocalPipeline(root / "net--mine__3" / "1" / "model.onnx", family.resize(None), family.head)

    return published
