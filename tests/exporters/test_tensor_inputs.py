"""Tensors of torch as AutoModel's pictures; this test is in the exporters' environment because it needs torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tritonvision.client.images import read_images
from tritonvision.errors import InvalidPicture
from tritonvision.pictures import decode
from tritonvision.settings import Settings

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
TENSOR = torch.from_numpy(RGB).permute(2, 0, 1)


def pixels(image, **more) -> list[np.ndarray]:
    return [decode(picture) for picture in read_images(image, Settings(), **more)]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
def test_a_tensor_is_rgb_with_its_channels_first(dtype):
    tensor = TENSOR if dtype is torch.uint8 else TENSOR.to(dtype) / 255
    np.testing.assert_array_equal(pixels(tensor)[0], RGB)
    np.testing.assert_array_equal(pixels(tensor, color_format="bgr")[0], RGB[..., ::-1])
    if dtype is not torch.uint8:  # part of a graph
        np.testing.assert_array_equal(pixels(torch.nn.Parameter(tensor))[0], RGB)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_read_within_its_precision(dtype):
    (found,) = pixels((TENSOR / 255).to(dtype))
    assert np.abs(found.astype(int) - RGB).max() <= 1


def test_a_batch_counts_as_its_pictures_also_in_a_list():
    batch = torch.stack([TENSOR, TENSOR.flip(2)])
    found = pixels([batch, RGB[..., ::-1], TENSOR[:1]])
    assert len(found) == 4
    np.testing.assert_array_equal(found[1], RGB[:, ::-1])
    np.testing.assert_array_equal(found[2], RGB)
    np.testing.assert_array_equal(found[3], np.repeat(RGB[..., :1], 3, axis=2))


@pytest.mark.parametrize(
    ("tensor", "told"),
    [
        (TENSOR.float(), "0 to 1"), (TENSOR / 255 - 0.1, "0 to 1"), (TENSOR / 0.0, "0 to 1"),
        (TENSOR.permute(1, 2, 0), "5 x 7 x 3"), (TENSOR[0], "5 x 7"), (TENSOR.long(), "int64"),
    ],
)  # fmt: skip
def test_a_tensor_that_is_no_picture_is_refused_with_its_shape_and_type(tensor, told):
    with pytest.raises(InvalidPicture) as caught:
        read_images(tensor, Settings())
    assert told in caught.value.message
