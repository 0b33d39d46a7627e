"""The pre steps of detectors with queries give the pixels of their authors' own transforms."""

import torch  # isort: skip

import numpy as np
import pytest
from PIL import Image

from tritonvision.exporters.libraries import torch_env
from tritonvision.python_backend.images import resize

SIZES = [
    (1, 1), (2, 3), (17, 5), (384, 384), (383, 385), (100, 100), (480, 640), (640, 480), (333, 1000), (1000, 333),
    (1, 700), (700, 1), (512, 511), (97, 131), (160, 400), (400, 160), (161, 266), (97, 162),
]  # fmt: skip


@pytest.fixture
def picture_of(photo_rgb):
    def resized(height, width):
        rng = np.random.default_rng(height * 10_007 + width)
        base = np.asarray(Image.fromarray(photo_rgb).resize((width, height), Image.Resampling.BILINEAR))
        return np.clip(base.astype(int) + rng.integers(-30, 31, base.shape), 0, 255).astype(np.uint8)

    return resized


@pytest.mark.parametrize("side", [384, 560])
def test_stretch_in_float32_is_what_rfdetrs_predict_resizes(picture_of, side):
    torch_env.import_torchvision()
    from torchvision.transforms import functional

    for height, width in SIZES:
        picture = picture_of(height, width)
        tensor = torch.from_numpy(picture).permute(2, 0, 1).float() / 255
        expected = functional.resize(tensor, [side, side], antialias=False).permute(1, 2, 0).numpy()
        pixels, geometry = resize.stretch(picture, side, side, "float32")
        assert pixels.dtype == np.float32 and pixels.shape == (side, side, 3)
        # source positions are float32 in both: the error of the last digit, times the largest step between pixels
        assert np.abs(pixels - expected).max() <= max(height, width) * 2**-23 + 1e-6, (height, width)
        assert (geometry.width, geometry.height) == (width, height)


def processed(processor, picture):
    """The grey levels that the processor normalises, and its mask of valid pixels."""
    inputs = processor(picture, return_tensors="np", input_data_format="channels_last", do_normalize=False)
    return np.moveaxis(inputs["pixel_values"][0] * 255, 0, -1), inputs["pixel_mask"][0]


@pytest.mark.parametrize("size", [(160, 267), (320, 533)])
def test_shortest_is_the_resize_of_detrs_processor_bit_by_bit(picture_of, size):
    torch_env.import_torchvision()
    from transformers.models.detr.image_processing_pil_detr import DetrImageProcessorPil

    processor = DetrImageProcessorPil(size={"shortest_edge": size[0], "longest_edge": size[1]})
    for height, width in SIZES:
        if max(height, width) > 64 * min(height, width):
            continue  # the processor asks for a side of no pixels
        picture = picture_of(height, width)
        expected, mask = processed(processor, picture)
        pixels, geometry = resize.shortest(picture, *size)
        np.testing.assert_array_equal(pixels, np.rint(expected), err_msg=f"{height}x{width}")
        assert geometry.valid_size == mask.shape == pixels.shape[:2]
        assert mask.all()


def test_the_processors_other_backend_differs_by_one_grey_level_at_most(picture_of):
    torch_env.import_torchvision()
    from transformers import DetrImageProcessor

    processor = DetrImageProcessor(size={"shortest_edge": 160, "longest_edge": 267})
    for size in ((480, 640), (333, 1000), (97, 131), (100, 100)):
        expected, _ = processed(processor, picture_of(*size))
        difference = np.abs(resize.shortest(picture_of(*size), 160, 267)[0] - np.rint(expected))
        assert difference.max() <= 1
        assert difference.mean() < 0.01


@pytest.mark.parametrize("shape", [(1, 700), (700, 1), (1, 1)])
def test_a_strip_of_one_pixel_still_has_a_size(picture_of, shape):
    pixels, geometry = resize.shortest(picture_of(*shape), 160, 267)
    assert min(pixels.shape) >= 1
    assert max(pixels.shape) <= 267
    assert geometry.valid_size == pixels.shape[:2]
