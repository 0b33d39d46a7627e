"""The pre steps give the same pixels as the authors' own transforms."""

import torch  # isort: skip  # noqa: F401  (this folder is for the export environment)

import numpy as np
import pytest
from PIL import Image

from tritonvision.exporters.libraries import torch_env
from tritonvision.exporters.libraries.ultralytics import load
from tritonvision.python_backend.images import resize

ODD_SIZES = [
    (1, 1), (2, 3), (17, 5), (33, 640), (640, 640), (639, 641), (641, 639), (100, 100), (480, 640), (640, 480),
    (1281, 719), (719, 1281), (333, 1000), (1000, 333), (1, 700), (700, 1), (1333, 37), (37, 1333), (512, 511),
    (97, 131),
]  # fmt: skip


@pytest.fixture
def picture_of(photo_rgb):
    def resized(height, width):
        rng = np.random.default_rng(height * 10_007 + width)
        base = np.asarray(Image.fromarray(photo_rgb).resize((width, height), Image.Resampling.BILINEAR))
        return np.clip(base.astype(int) + rng.integers(-30, 31, base.shape), 0, 255).astype(np.uint8)

    return resized


@pytest.mark.parametrize("network", [(640, 640), (1280, 1280), (384, 640)])
def test_letterbox_is_ultralytics_letterbox_bit_by_bit(picture_of, network):
    load.prepare()
    from ultralytics.data.augment import LetterBox

    for size in ODD_SIZES:
        picture = picture_of(*size)
        expected = LetterBox(network, auto=False, stride=32)(image=picture.copy())
        pixels, _ = resize.letterbox(picture, *network)
        assert np.array_equal(pixels, expected), size


def test_letterbox_maps_boxes_back_as_ultralytics_scale_boxes_does(picture_of):
    load.prepare()
    from ultralytics.utils.ops import scale_boxes

    corners = np.random.default_rng(0).uniform(0, 640, (50, 4)).astype(np.float32)
    for height, width in ODD_SIZES:
        _, geometry = resize.letterbox(picture_of(height, width), 640, 640)
        ours = geometry.to_picture(corners.reshape(-1, 2, 2)).reshape(-1, 4)
        ours = np.clip(ours, 0, [width, height, width, height])
        theirs = scale_boxes((640, 640), torch.from_numpy(corners.copy()), (height, width)).numpy()
        np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=1e-6)


@pytest.mark.parametrize(("interpolation", "crop_pct"), [("bicubic", 0.95), ("bilinear", 0.875), ("bicubic", 1.0)])
@pytest.mark.parametrize("size", [224, 288])
def test_crop_is_timms_eval_transform_bit_by_bit(picture_of, interpolation, crop_pct, size):
    torch_env.import_torchvision()
    from timm.data.transforms_factory import transforms_imagenet_eval

    transform = transforms_imagenet_eval(size, crop_pct=crop_pct, interpolation=interpolation, normalize=False)
    percent = 87.5 if crop_pct == 0.875 else round(crop_pct * 100)
    for height, width in ODD_SIZES:
        if max(height, width) > 64 * min(height, width):
            continue
        picture = picture_of(height, width)
        expected = transform(Image.fromarray(picture)).permute(1, 2, 0).numpy()
        pixels, _ = resize.crop(picture, size, size, interpolation, percent)
        assert np.array_equal(pixels, expected), (height, width)


@pytest.mark.parametrize("shape", [(1, 700), (700, 1), (3, 900), (900, 3), (20, 5000)])
def test_crop_of_a_strip_longer_than_64_widths_stays_within_two_grey_levels_of_timm(picture_of, shape):
    torch_env.import_torchvision()
    from timm.data.transforms_factory import transforms_imagenet_eval

    picture = picture_of(*shape)
    expected = transforms_imagenet_eval(224, crop_pct=0.95, interpolation="bicubic", normalize=False)(
        Image.fromarray(picture)
    )
    pixels, _ = resize.crop(picture, 224, 224)
    difference = np.abs(pixels.astype(int) - expected.permute(1, 2, 0).numpy())
    assert difference.max() <= 2
    assert difference.mean() < 2e-3


def test_the_catalogues_classifiers_declare_what_timm_ships_for_them():
    torch_env.import_torchvision()
    from timm.models import get_pretrained_cfg

    from tritonvision import catalog
    from tritonvision.exporters.families import resnet, vit

    for family in (resnet.FAMILY, vit.FAMILY):
        ids = [e for e in catalog.entries().values() if e.family == family.name and e.upstream_exists]
        assert len(ids) >= 5
        for entry in ids:
            config, rule = get_pretrained_cfg(family.timm_name(entry)), family.resize(entry)
            assert (3, rule.height, rule.width) == config.input_size
            assert dict(rule.options) == {"interpolation": config.interpolation, "percent": config.crop_pct * 100}
            assert (config.mean, config.std) == (family.mean, family.std)
