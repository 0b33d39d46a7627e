"""The sizes of PaliGemma by id, as plain numbers that environments without transformers read, too."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tritonvision.python_backend.vlm.paligemma import BEGIN, CODES, LOCATIONS, PICTURE

# Of the text model (Gemma 2B; Gemma 2 9B) and of the vision model (SigLIP So400m). To be checked against the real
# config.json; the numbers of parameters are the published ones. ``reduced`` and ``reduced2`` have every part at a size
# for tests, the latter with a window that a picture's rows do not fit into.
_TEXT = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size", "head_dim",
)  # fmt: skip
_VISION = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "image_size", "patch_size",
)  # fmt: skip
_SIZES = {
    "paligemma-3b": ((2048, 18, 8, 1, 16384, 256), (1152, 27, 16, 4304, 224, 14)),
    "paligemma-10b": ((3584, 42, 16, 8, 14336, 256), (1152, 27, 16, 4304, 448, 14)),
    "reduced": ((48, 3, 4, 1, 96, 16), (64, 2, 4, 128, 56, 14)),
    "reduced2": ((48, 4, 4, 2, 96, 16), (64, 2, 4, 128, 56, 14)),
}
_GEMMA2: dict[str, dict[str, Any]] = {
    "paligemma-10b": {"sliding_window": 4096, "query_pre_attn_scalar": 256},
    "reduced2": {"sliding_window": 12, "query_pre_attn_scalar": 20, "attn_logit_softcapping": 8.0},
}
_FIRST = {"reduced": 1008, "reduced2": 1008}  # the id of <loc0000>, below which the words of a small tokenizer fit
_FIRST_RELEASED = 256000
_ROOM = 63  # ids behind the last token, up to a multiple of 64

END, PADDING, UNKNOWN = "<eos>", "<pad>", "<unk>"
_CONTROL = {PADDING: 0, END: 1, BEGIN: 2, UNKNOWN: 3, "<mask>": 4}


def plain(name: str) -> SimpleNamespace:
    """The configuration of an id, or of a reduced network, under the names of transformers'.

    ``text_config.model_type`` is ``gemma`` or ``gemma2``; ``special`` are the tokens that are no text, with their ids.
    """
    text, vision = _SIZES[name]
    first = _FIRST.get(name, _FIRST_RELEASED)
    special = _CONTROL | {token: first + n for n, token in enumerate((*LOCATIONS, *CODES, PICTURE))}
    more = {"vocab_size": special[PICTURE] + 1 + _ROOM, "max_position_embeddings": 8192}
    return SimpleNamespace(
        text_config=SimpleNamespace(
            model_type="gemma2" if name in _GEMMA2 else "gemma", **dict(zip(_TEXT, text, strict=True)),
            **more, **_GEMMA2.get(name, {}),
        ),
        vision_config=SimpleNamespace(**dict(zip(_VISION, vision, strict=True))),
        image_token_id=special[PICTURE], special=special,
    )  # fmt: skip


