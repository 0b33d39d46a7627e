"""Cosmos-Reason1: Qwen2.5-VL 7B, trained on to think about the physical world before it answers. What it thinks is
OpenAI's `reasoning_content`; the other dialects tell the answer alone. It thinks where the system message asks for it:
`Answer the question in the following format: <think>...</think> <answer>...</answer>.`
"""

from __future__ import annotations

from tritonvision.exporters.families.qwen2_5_vl import SEVEN, Qwen2_5VL


class CosmosReason1(Qwen2_5VL):
    """Qwen2.5-VL under its own ids. It thinks where the system message asks for it, as its authors' does."""

    name = "Cosmos Reason1"
    sizes = {"cosmos-reason1": SEVEN, "reduced": Qwen2_5VL.sizes["reduced"]}
    repositories = {"cosmos-reason1": "nvidia/Cosmos-Reason1-7B"}
    license_notice = ""


FAMILY = CosmosReason1()
save_reduced = FAMILY.save_reduced
