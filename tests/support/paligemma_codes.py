"""A reduced PaliGemma that says nothing but the codes of masks, whatever it is asked."""

from tritonvision.exporters.families import paligemma
from tritonvision.exporters.modules import causal_decoder
from tritonvision.python_backend.vlm.paligemma import CODES


def says_codes(seed=0):
    """The network, with random weights of that seed."""
    import torch

    network = paligemma.random("reduced", seed)
    text_model, head = network._model.model.language_model, network._model.lm_head
    with torch.no_grad():
        head.weight.normal_(generator=torch.Generator().manual_seed(seed))
    codes = network._processor.tokenizer.convert_tokens_to_ids([*CODES])
    causal_decoder.tune(text_model, head, codes, torch.randn(16, 48, generator=torch.Generator().manual_seed(1)), seed)
    return network
