"""Fixtures: importing and running a package, and a detector of ultralytics to export into one."""

import torch  # noqa: F401  isort: skip

from dataclasses import replace

import pytest
from packages import ID

from tritonvision import catalog
from tritonvision.ensembles.in_process import LocalPipeline
from tritonvision.exporters.families import yolov8
from tritonvision.exporters.libraries.ultralytics import load
from tritonvision.exporters.packages import import_package
from tritonvision.exporters.packages.description import of_folder
from tritonvision.exporters.packages.files import PackageFolder
from tritonvision.exporters.packages.pipeline import PackageFamily
from tritonvision.publication import Repository


@pytest.fixture(scope="session")
def three_classes():
    """A yolov8n whose random weights find some thirty things of three classes on the photo."""
    load.prepare()
    yolo = load.architecture("yolov8n", 3, seed=1)
    yolov8.FAMILY.calibrate(yolo.model, replace(catalog.find("yolov8n-640"), input_size=(320, 320)), seed=1)
    yolo.model.names = dict(enumerate(("disc", "box", "triangle")))
    return yolo


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "package"
    path.mkdir()
    return path


@pytest.fixture
def published(folder, tmp_path):
    """Imports the folder and returns the manifest and the published model, run in this process."""

    def published():
        root = tmp_path / "repository"
        manifest, fresh = import_package(folder, ID, root)
        assert fresh and Repository(root).get(ID) == manifest
        family = PackageFamily(of_folder(PackageFolder.of(folder)))
        graph = root / "net--mine__3" / "1" / "model.onnx"
        return manifest, LocalPipeline(graph, family.resize(None), family.head)

    return published
