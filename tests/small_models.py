"""Publishes models for the tests that have every part of the real ones, but few layers.

Each goes through the export that users call, gate included. SAM keeps its id, since its routes name it, and its size of
1024 pixels; its encoder has 4 of 12 layers, because encoding a picture takes most of the time of tests that prompt it.

    python -P tests/small_models.py REPOSITORY      (the export environment; ``make test`` does it)
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).parent / "support"))
from paligemma_codes import says_codes  # noqa: E402
from shallow_towers import shallow as shallow_towers  # noqa: E402

from tritonvision.exporters import pipeline  # noqa: E402
from tritonvision.exporters.contract import Weights  # noqa: E402
from tritonvision.exporters.families import (  # noqa: E402
    dinov3,
    florence_2,
    grounding_dino,
    internvl_3_5,
    moondream2,
    nvila,
    owlv2,
    qwen2_5_vl,
    qwen3_vl,
    sam,
    sam2,
    sam2_rt,
    smolvlm,
    trocr,
    yolo_world,
)

RANDOM = Weights("random", seed=1)
LAYERS = {"num_hidden_layers": 3}
SIDES = 240, 400
EVERY_LAYER = {"blocks_per_stage": [1, 1, 2, 1], "global_attention_blocks": [3]}  # of SAM2's kinds


def main() -> None:
    """Publish them below the folder that the command line names."""
    repository = Path(sys.argv[1])
    small = (
        small_vlm, small_florence, small_paligemma, small_moondream, small_qwen, small_qwen3, small_internvl,
        small_nvila, small_line, small_owl, small_dino, small_world, small_sam, small_sam2, small_tracks, small_towers,
        small_dinov3,
    )  # fmt: skip
    for publish in small:
        publish(partial(pipeline.export, repository=repository, force=True))


def small_vlm(export: Callable) -> None:
    """A folder of weights as users bring it: its config.json says how small it is."""
    with tempfile.TemporaryDirectory() as folder:
        smolvlm.save_reduced(Path(folder))
        export("smolvlm-256m", Weights("user", Path(folder)), as_id="tests/small-vlm/1")


def small_florence(export: Callable) -> None:
    """The same of Florence-2, which sees 96 pixels and knows 600 texts and a thousand places."""
    with tempfile.TemporaryDirectory() as folder:
        florence_2.save_reduced(Path(folder))
        export("florence-2-base", Weights("user", Path(folder)), as_id="tests/small-florence/1")


def small_paligemma(export: Callable) -> None:
    """PaliGemma that says nothing but codes of masks."""
    with tempfile.TemporaryDirectory() as folder:
        says_codes().save(Path(folder))
        export("paligemma-3b", Weights("user", Path(folder)), as_id="tests/small-paligemma/1")


def small_moondream(export: Callable) -> None:
    """Moondream2 that sees crops of 70 pixels."""
    with tempfile.TemporaryDirectory() as folder:
        moondream2.save_reduced(Path(folder))
        export("moondream2", Weights("user", Path(folder)), as_id="tests/small-moondream/1")


def small_qwen(export: Callable) -> None:
    """The same of Qwen2.5-VL, with layers that see windows of a picture and layers that see all of it."""
    with tempfile.TemporaryDirectory() as folder:
        qwen2_5_vl.save_reduced(Path(folder))
        export("qwen2.5-vl-7b", Weights("user", Path(folder)), as_id="tests/small-qwen/1")


def small_qwen3(export: Callable) -> None:
    """The same of Qwen3-VL, with rows of two layers of its vision network that the decoder's first layers add."""
    with tempfile.TemporaryDirectory() as folder:
        qwen3_vl.save_reduced(Path(folder))
        export("qwen3-vl-2b", Weights("user", Path(folder)), as_id="tests/small-qwen3/1")


def small_internvl(export: Callable) -> None:
    """Another one, whose answers may name places."""
    with tempfile.TemporaryDirectory() as folder:
        internvl_3_5.save_reduced(Path(folder))
        export("internvl3.5-1b", Weights("user", Path(folder)), as_id="tests/small-internvl/1")


def small_nvila(export: Callable) -> None:
    """One that merges three scales of a picture."""
    with tempfile.TemporaryDirectory() as folder:
        nvila.save_reduced(Path(folder))
        export("nvila", Weights("user", Path(folder)), as_id="tests/small-nvila/1")


def small_line(export: Callable) -> None:
    """TrOCR that sees 64 pixels and knows 600 tokens."""
    vision = {"image_size": 64, "hidden_size": 48, "num_attention_heads": 4, "intermediate_size": 64, **LAYERS}
    text = {
        "vocab_size": 600, "d_model": 64, "decoder_layers": 3, "decoder_attention_heads": 4, "decoder_ffn_dim": 96,
        "max_position_embeddings": 50,
    }  # fmt: skip
    with ExitStack() as patches:
        patches.enter_context(mock.patch.dict(trocr._ENCODERS, {k: v | vision for k, v in trocr._ENCODERS.items()}))
        patches.enter_context(mock.patch.object(trocr, "_DECODER", text))
        without = {kind: {n: v for n, v in found.items() if n not in text} for kind, found in trocr._DECODERS.items()}
        patches.enter_context(mock.patch.dict(trocr._DECODERS, without))
        export("trocr-base-printed", RANDOM, as_id="tests/small-line/1")


def small_owl(export: Callable) -> None:
    """OWLv2 with 196 patches."""
    facts = {"vision_config": {"image_size": 224, **LAYERS}, "text_config": LAYERS}
    with mock.patch.dict(owlv2._CONFIGS, {"owlv2-base-patch14": facts}):
        export("owlv2-base-patch14", RANDOM, as_id="tests/small-owl/1")


def small_dino(export: Callable) -> None:
    """Grounding DINO with a layer or two of everything that is repeated, and pictures of 240 pixels."""
    true_config = grounding_dino.config

    def shallow(entry):
        config = true_config(entry)
        config.backbone_config.depths = [2, 1, 2, 1]  # of two the second shifts its windows
        config.text_config.num_hidden_layers = config.encoder_layers = config.decoder_layers = 2
        return config

    point, network = grounding_dino.point, grounding_dino.random_network
    with ExitStack() as patches:
        patches.enter_context(mock.patch.object(grounding_dino, "config", shallow))
        patches.enter_context(mock.patch.object(grounding_dino, "point", partial(point, *SIDES)))
        patches.enter_context(mock.patch.object(grounding_dino, "random_network", partial(network, sides=SIDES)))
        export("grounding-dino-tiny", Weights("random"), as_id="tests/small-dino/1")


def small_world(export: Callable) -> None:
    """YOLO-World with ultralytics' smallest detector, pictures of 160 pixels and two of the text tower's layers.

    The seed is one of which no two overlapping boxes on the padding score the same to within rounding, which would
    decide which of them suppresses the other.
    """
    with ExitStack() as patches:
        patches.enter_context(mock.patch.object(yolo_world.text_tower, "LAYERS", 2))
        patches.enter_context(mock.patch.object(yolo_world.FAMILY, "architecture", lambda _: "yolov8n-worldv2"))
        export("yolo-world-s", Weights("random", seed=2, size=(160, 160)), as_id="tests/small-world/1")


def small_sam(export: Callable) -> None:
    """SAM with two layers that attend to windows and two that attend to the whole picture."""
    with mock.patch.dict(sam._VISION, {"vit_b": {"num_hidden_layers": 4, "global_attn_indexes": [1, 3]}}):
        export("sam-vit_b", Weights("random"))


def small_sam2(export: Callable) -> None:
    """SAM2 over a frame of 256 pixels, with layers of every kind."""
    with ExitStack() as patches:
        patches.enter_context(mock.patch.dict(sam2.configs._BACKBONES, {"tiny": EVERY_LAYER}))
        patches.enter_context(mock.patch.object(sam2, "config", partial(sam2.config, side=256)))
        export("sam2-tiny", Weights("random", seed=3), as_id="tests/small-sam2/1")


def small_tracks(export: Callable) -> None:
    """SAM2 on streams of frames of 128 pixels."""
    with ExitStack() as patches:
        patches.enter_context(mock.patch.dict(sam2.configs._BACKBONES, {"tiny": EVERY_LAYER}))
        patches.enter_context(mock.patch.object(sam2_rt, "config", partial(sam2_rt.config, side=128)))
        export("sam2-rt-tiny", Weights("random", seed=3), as_id="tests/small-tracks/1")


def small_dinov3(export: Callable) -> None:
    """DINOv3 with two layers: an embedder of pictures alone."""
    with mock.patch.dict(dinov3._CONFIGS["small"], {"num_hidden_layers": 2}):
        export("dinov3-small", Weights("random"), as_id="tests/small-dinov3/1")


def small_towers(export: Callable) -> None:
    """Perception Encoder with two layers in each tower."""
    with shallow_towers():
        export("perception-encoder/PE-Core-B16-224", Weights("random"), as_id="tests/small-pe/1")


if __name__ == "__main__":
    main()
