"""Between which shapes a plan runs: from what the networks declare of their axes."""

import json

import pytest

from tritonvision import catalog
from tritonvision.ensembles.entry_points import Chain, Net
from tritonvision.ensembles.preprocessing import Resize
from tritonvision.ensembles.schemas import HEADS
from tritonvision.ensembles.tensors import Tensor
from tritonvision.errors import NotSupported
from tritonvision.exporters import registry
from tritonvision.exporters.tensorrt.profiles import profile

FIXED = Chain(Resize("letterbox", 640, 640), HEADS["dense-boxes"]).nets[0]
SHORTEST = Chain(Resize("shortest", 800, 1333), HEADS["query-boxes"]).nets[0]


def test_pixels_of_a_fixed_size_come_in_batches_of_one_to_the_networks_own():
    assert profile(FIXED).inputs["pixels"] == ((1, 640, 640, 3), (8, 640, 640, 3), (8, 640, 640, 3))
    assert profile(FIXED, max_batch=16, optimal_batch=4).inputs["pixels"][1:] == ((4, 640, 640, 3), (16, 640, 640, 3))
    assert profile(FIXED, 16).inputs["pixels"][2][0] == 16


def test_pixels_that_follow_the_picture_come_one_by_one_within_the_bounds_of_their_rule():
    shapes = profile(SHORTEST, 1).inputs
    assert shapes["pixels"] == ((1, 1, 1, 3), (1, 800, 1066, 3), (1, 1333, 1333, 3))
    assert shapes["valid_size"] == ((1, 2), (1, 2), (1, 2))
    assert profile(SHORTEST).inputs["pixels"][1:] == ((1, 800, 1066, 3), (8, 1333, 1333, 3))


@pytest.mark.parametrize("rule, sides, options", [("shortest", (800, 1333), ()), ("multiple", (518, 518), ())])
def test_what_a_rule_makes_of_pictures_lies_within_its_bounds(rule, sides, options):
    import numpy as np

    resize = Resize(rule, *sides, options)
    for height, width in ((480, 640), (100, 100), (30, 100), (900, 300), (1200, 1600), (2000, 700)):
        made = resize(np.zeros((height, width, 3), np.uint8))[0].shape[:2]
        assert all(least <= side <= most for side, (least, _, most) in zip(made, resize.bounds, strict=True))


def test_batches_that_contradict_each_other_and_axes_without_bounds_are_refused():
    with pytest.raises(NotSupported, match="batches of up to 4 cannot be tuned for 8"):
        profile(FIXED, max_batch=4, optimal_batch=8)
    with pytest.raises(NotSupported, match="axes of 'input_ids' lie"):
        profile(Net("embed", (Tensor("input_ids", "INT64", (-1,)),), ()))


def test_equal_profiles_are_told_by_the_same_line_whatever_the_order_of_the_inputs():
    reverse = Net("", tuple(reversed(SHORTEST.inputs)), ())
    assert profile(SHORTEST).to_json() == profile(reverse).to_json()
    assert json.loads(profile(FIXED).to_json())["pixels"][0] == [1, 640, 640, 3]


@pytest.mark.parametrize("model_id", ["detr-resnet-50", "depth-anything-v2-small", "sam-vit_b", "grounding-dino-tiny"])
def test_families_whose_axes_are_free_state_their_bounds(model_id):
    entry = catalog.find(model_id)
    points = registry.find(entry.family).entry_points(entry)
    free = [net for point in points for net in point.nets if any(-1 in tensor.dims for tensor in net.inputs)]
    assert free
    for net in free:
        assert all(largest[0] >= 1 for _, _, largest in profile(net).inputs.values())
