"""The memory that an export asks for before the work is what it takes."""

import pytest

from tritonvision import catalog
from tritonvision.exporters import demand, registry

# GB that were resident at the peak of an export with random weights, as benchmarks/parity_all.py measures them
MEASURED = {
    "yolov9c-640": 2.33, "yolov10n-640": 0.87, "yolov10x-640": 2.26, "yolov11n-640": 0.91, "yolov12l-640": 2.36,
    "yolov12n-1280": 1.81, "yolov11n-seg-640": 1.10, "yolonass-640": 1.60, "yolonasm-640": 2.39,
    "yolonasl-640": 2.15, "yolov11l-1280": 3.87, "yolov12x-640": 3.82, "rfdetr-base": 2.37,
    "facebook/detr-resnet-50": 2.56, "vit-tiny-patch16": 0.91, "vit-base-patch32": 1.47, "clip/RN101": 2.05,
    "depth-anything-v3-small": 1.89, "sam2-small": 4.32, "easyocr-en": 2.34,
}  # fmt: skip


@pytest.mark.parametrize("model_id", MEASURED)
def test_no_less_is_asked_for_than_was_taken_and_no_more_than_half_as_much_again(model_id):
    entry = catalog.find(model_id)
    asked = demand.needed(entry, registry.find(entry.family)) / 1e9
    assert 1 <= asked / MEASURED[model_id] <= 1.5


def test_pixels_count_and_a_larger_network_asks_for_more():
    family, entries = registry.find("YOLOv12"), map(catalog.find, ("yolov12n-640", "yolov12n-1280", "yolov12s-1280"))
    small, larger, largest = (demand.needed(entry, family) for entry in entries)
    assert small < larger < largest
