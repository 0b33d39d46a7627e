"""What is asked of SAM and SAM2 alike: masks of random weights, the authors' names, transformers' own pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from tritonvision.ensembles.in_process import LocalComposition
from tritonvision.exporters.parity import compare, sample_pictures
from tritonvision.exporters.parity.checks.masks import mask_areas
from tritonvision.results import SAMPrediction

RELATIVE = 5e-5
# Parts of transformers' names, and what the authors of both call them.
AUTHORS_NAMES = [
    ("patch_embed.projection", "patch_embed.proj"), ("mask_embed.conv1", "mask_downscaling.0"),
    ("mask_embed.layer_norm1", "mask_downscaling.1"), ("mask_embed.conv2", "mask_downscaling.3"),
    ("mask_embed.layer_norm2", "mask_downscaling.4"), ("mask_embed.conv3", "mask_downscaling.6"),
    ("shared_embedding.positional_embedding", "pe_layer.positional_encoding_gaussian_matrix"),
    ("upscale_conv1", "output_upscaling.0"), ("upscale_layer_norm", "output_upscaling.1"),
    ("upscale_conv2", "output_upscaling.3"), (".layer_norm", ".norm"),
]  # fmt: skip


def relative(got: np.ndarray, want: np.ndarray) -> float:
    """The largest difference, of the largest value."""
    return float(np.abs(got - want).max() / np.abs(want).max())


def check_random_masks(local: LocalComposition, questions: Sequence[Mapping[str, Any]]) -> None:
    """Masks cover a part of the photo, and differ between prompts (the first, second and fourth) and pictures."""
    size = sample_pictures.photo().shape[:2]
    answers = [local(sample_pictures.photo(), given)["masks"] for given in questions]
    for masks in answers:
        shares = mask_areas(masks, size) / (size[0] * size[1])
        assert ((shares >= 0.05) & (shares <= 0.95)).any()
    mirrored = local(sample_pictures.photo()[:, ::-1], questions[0])["masks"]
    for other in (answers[1], answers[3], mirrored):
        assert max(compare.mask_difference(a, b, np.array(size)) for a, b in zip(answers[0], other, strict=True)) > 0.05


def check_against_pipeline(
    network: Any, picture: np.ndarray, given: Mapping[str, Any], got: SAMPrediction, apart: float
) -> None:
    """The masks of a whole grid are those of transformers' pipeline, but for a share ``apart`` of the pixels.

    Args:
        network: with the ``processor`` of the model.
        given: settings of the grid.
    """
    from transformers import MaskGenerationPipeline

    pipeline = MaskGenerationPipeline(
        model=network._model, image_processor=network.processor.image_processor, device="cpu"
    )
    theirs = {name.replace("points_per_side", "points_per_crop"): value for name, value in given.items()}
    want = pipeline(Image.fromarray(picture), **theirs)
    assert 1 < len(got.scores) == len(want["scores"])
    assert np.abs(got.scores - want["scores"].numpy()).max() <= 1e-4
    for mask, other in zip(got.masks.to_dense(), want["masks"], strict=True):
        assert (mask != other.numpy()).mean() <= apart
