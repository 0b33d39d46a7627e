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

from tritonvision.exporters import pipeline
from tritonvision.exporters.contract import Weights
from tritonvision.exporters.families import grounding_dino, owlv2, sam, smolvlm, trocr

RANDOM = Weights("random", seed=1)
LAYERS = {"num_hidden_layers": 3}
SIDES = 240, 400


def main() -> None:
    """Publish them below the folder that the command line names."""
    repository = Path(sys.argv[1])
    for publish in (small_vlm, small_line, small_owl, small_dino, small_sam):
        publish(partial(pipeline.export, repository=repository, force=True))


def small_vlm(export: Callable) -> None:
    """A folder of weights as users bring it: its config.json says how small it is."""
    with tempfile.TemporaryDirectory() as folder:
        smolvlm.save_reduced(Path(folder))
        export("smolvlm-256m", Weights("user", Path(folder)), as_id="tests/small-vlm/1")


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


def small_sam(export: Callable) -> None:
    """SAM with two layers that attend to windows and two that attend to the whole picture."""
    with mock.patch.dict(sam._VISION, {"vit_b": {"num_hidden_layers": 4, "global_attn_indexes": [1, 3]}}):
        export("sam-vit_b", Weights("random"))


if __name__ == "__main__":
    main()
