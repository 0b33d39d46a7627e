"""Base of families of ``transformers``' models that write: what belongs to their weights, and how near graphs come."""

from __future__ import annotations

from tritonvision.exporters.contract import NO_CLASSES, Tolerance
from tritonvision.exporters.libraries.transformers_family import TransformersFamily
from tritonvision.exporters.modules import causal_decoder

TOLERANCES = {"image_embeds": 1e-4, "inputs_embeds": 0, "logits": 1e-4, "present.key": 1e-4, "present.value": 1e-4}


class ChatFamily(TransformersFamily):
    """A family whose networks write; a processor lies beside its weights, so that these are always a folder."""

    refusals = NO_CLASSES
    activation_memory = 0.08  # the vision tower alone sees pixels
    random_note = "Random weights and a small vocabulary, calibrated only to carry signal: what it says means nothing."
    beside: tuple[str, ...] = (
        "generation_config.json", "tokenizer.json", "tokenizer_config.json", "preprocessor_config.json",
    )  # fmt: skip
    sometimes_beside: tuple[str, ...] = ("processor_config.json", "chat_template.jinja", "chat_template.json")
    tolerance = Tolerance(TOLERANCES, causes=causal_decoder.CAUSES)
