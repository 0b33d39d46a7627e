"""Families are found by name, and only the one that is asked for is imported."""

import subprocess
import sys
from dataclasses import replace

import pytest

from tritonvision import catalog
from tritonvision.errors import NotSupported
from tritonvision.exporters import registry


def test_exportable_names_are_names_of_the_catalogue():
    names = {entry.family for entry in catalog.entries().values()}
    assert {"MediaPipe Face", "YOLOv8", "YOLOv11", "ResNet"} <= registry.exportable() <= names


def test_every_family_of_the_catalogue_has_a_module_name_of_its_own():
    names = {entry.family for entry in catalog.entries().values()}
    assert len({registry.module_name(name) for name in names}) == len(names)
    assert registry.module_name("YOLO-World") == "yolo_world"
    assert registry.module_name("Qwen2.5-VL") == "qwen2_5_vl"


def test_a_family_without_exporter_is_refused_with_a_hint(monkeypatch):
    monkeypatch.setattr(registry, "exportable", frozenset)
    with pytest.raises(NotSupported, match="cannot be exported yet"):
        registry.find("NVILA")


def test_every_id_of_a_family_can_be_exported_whatever_its_size():
    entries = catalog.entries()
    assert registry.can_export(entries["sam-vit_h"]) and registry.can_export(entries["smolvlm-2.2b"])
    assert not registry.can_export(replace(entries["sam-vit_h"], family="Nobody's"))


def test_asking_what_is_exportable_imports_no_family():
    program = (
        "import sys\n"
        "from tritonvision.exporters import registry\n"
        "assert registry.exportable()\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'flatbuffers', 'ultralytics', 'timm', 'cv2'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "family = registry.find('MediaPipe Face')\n"
        "assert not {'torch', 'ultralytics', 'timm', 'mediapipe'} & set(sys.modules)\n"
        "others = [m for m in sys.modules if m.startswith('tritonvision.exporters.families.')]\n"
        "assert others == ['tritonvision.exporters.families.mediapipe_face'], others\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
