"""The reference's arithmetic is that of the libraries, and the graph's differs by rounding only."""

import torch  # isort: skip

import numpy as np
import pytest

from tritonvision.exporters.modules import normalise

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
SCALES = [normalise.IMAGENET, ((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("double", [False, True])
def test_the_reference_is_torchvisions_arithmetic_bit_for_bit(scale, double):
    from torchvision.transforms import functional

    found = normalise.normalised(PIXELS, scale, double)
    want = torch.from_numpy(PIXELS).permute(0, 3, 1, 2).to(torch.float64 if double else torch.float32).div(255)
    assert found.shape == (2, 3, 5, 7) and torch.equal(found, functional.normalize(want, *scale))


@pytest.mark.parametrize("scale", SCALES)
def test_the_part_of_a_graph_gives_what_the_reference_gives(scale):
    found = normalise.normalising(scale)(torch.from_numpy(PIXELS))
    assert found.dtype == torch.float32
    assert torch.allclose(found, normalise.normalised(PIXELS, scale), atol=1e-5, rtol=0)


def test_padding_is_zero_after_normalising_and_zero_in_the_mask():
    images = normalise.normalised(PIXELS, normalise.IMAGENET)
    whole = images.clone()
    mask = normalise.without_padding(images, np.array([[5, 7], [2, 3]], np.int32))
    assert (mask.dtype, mask.sum((1, 2)).tolist()) == (torch.int64, [35, 6])
    assert torch.equal(images, whole * mask[:, None]) and mask[1, :2, :3].all()
