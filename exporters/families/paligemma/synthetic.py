"""PaliGemma with random weights whose answers depend on the picture, and its processor around a small tokenizer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tritonvision.exporters.families.paligemma import sizes
from tritonvision.exporters.modules import causal_decoder
from tritonvision.exporters.synthetic import calibrate
from tritonvision.exporters.synthetic.tokenizers import byte_pairs
from tritonvision.python_backend.vlm.paligemma import BEGIN, CODES, LOCATIONS, PICTURE

if TYPE_CHECKING:
    from transformers import PaliGemmaForConditionalGeneration, PreTrainedTokenizerFast

_PLACES = 0.3  # of random weights: share of a patch's embedding that is its position
_SOME = 16  # of the tokens of places every so-manyth is generated, or the answers would have little else


def tokenizer(name: str) -> PreTrainedTokenizerFast:
    """A small vocabulary of words, with the true tokens of places and control at the ids of :mod:`sizes`."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    file = json.loads(byte_pairs.byte_pairs(sizes.plain(name).special))
    for token in file["added_tokens"]:
        token["special"] = token["content"] not in {*LOCATIONS, *CODES}
    found = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(file)), bos_token=BEGIN, eos_token=sizes.END,
        pad_token=sizes.PADDING, unk_token=sizes.UNKNOWN, extra_special_tokens={"image_token": PICTURE},
    )  # fmt: skip
    return found


def calibrate_prompt(model: PaliGemmaForConditionalGeneration, words: Any, seed: int) -> None:
    """Make the rows of pictures differ, and let the model generate words and some places only, in place.

    The outputs of a random projector are nearly the same for every picture: their mean is projected out, and the rest
    is scaled to the standard deviation of the embeddings of words, which Gemma multiplies by the root of their length.
    """
    import torch

    tower, projector = model.model.vision_tower, model.model.multi_modal_projector.linear
    side, width = model.config.vision_config.image_size, model.config.text_config.hidden_size
    some = torch.from_numpy(calibrate.structured_pictures(4, side, side, seed)).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        tower.embeddings.position_embedding.weight.mul_(_PLACES)
        whole = tower(some).last_hidden_state
        rows, kernel = whole.flatten(0, 1).double(), projector.weight
        mean = rows.mean(0)
        blind = kernel.double() - (kernel.double() @ mean).outer(mean) / mean.square().sum()
        kernel.copy_(blind * (width**0.5 / (rows @ blind.T).std(0))[:, None])
        picture = projector(whole)[0]
    vocabulary = words.get_vocab()
    silent = {token for token in words.all_special_tokens} | {"<mask>"}
    places = {token for n, token in enumerate((*LOCATIONS, *CODES)) if n % _SOME}
    said = sorted(id for token, id in vocabulary.items() if token not in silent | places)
    causal_decoder.tune(model.model.language_model, model.lm_head, said, picture, seed)
