"""Florence-2 with random weights whose answers depend on the picture and the prompt, and a small vocabulary for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tritonvision.exporters.families.florence_2 import graphs
from tritonvision.exporters.synthetic import calibrate, text_decoder
from tritonvision.exporters.synthetic.tokenizers import roberta
from tritonvision.python_backend.vlm.florence_2 import PICTURE

if TYPE_CHECKING:
    from transformers import Florence2ForConditionalGeneration, RobertaTokenizer

# The tokens of Florence-2's tasks and places, in the order of their ids behind BART's vocabulary; the picture's comes
# last. One is misspelt in the released vocabulary.
MARKS = (
    "<od>", "</od>", "<ocr>", "</ocr>", *(f"<loc_{step}>" for step in range(1000)), "<cap>", "</cap>", "<ncap>",
    "</ncap>", "<dcap>", "</dcap>", "<grounding>", "</grounding>", "<seg>", "</seg>", "<sep>", "<region_cap>",
    "</region_cap>", "<region_to_desciption>", "</region_to_desciption>", "<proposal>", "</proposal>", "<poly>",
    "</poly>", "<and>",
)  # fmt: skip


def add_marks(tokenizer: RobertaTokenizer) -> None:
    """Give BART's tokenizer those tokens of Florence-2 that it lacks, special, and the attributes of the picture's."""
    from transformers import AddedToken

    known = tokenizer.get_vocab()
    missing = [token for token in (*MARKS, PICTURE) if token not in known]
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in missing], special_tokens=True)
    tokenizer.image_token, tokenizer.image_token_id = PICTURE, tokenizer.convert_tokens_to_ids(PICTURE)


def vocabulary(size: int) -> RobertaTokenizer:
    """A small vocabulary of ``size`` texts as BART's, with Florence-2's tokens behind them."""
    tokenizer = roberta.vocabulary(size)
    add_marks(tokenizer)
    return tokenizer


def vary(model: Florence2ForConditionalGeneration, side: int, texts: int, seed: int) -> None:
    """Make the rows of pictures differ, and let the model generate varying tokens, in place.

    The outputs of a random projector are nearly the same for every picture: their mean is projected out.

    Args:
        side: pixels of the network's square.
        texts: tokens of the vocabulary that stand for texts.
    """
    import torch

    pictures = torch.from_numpy(calibrate.structured_pictures(4, side, side, seed))
    text, projector = model.model.language_model, model.model.multi_modal_projector
    seen: list[torch.Tensor] = []
    hook = projector.image_projection.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        graphs.vision(model)(pictures)
    hook.remove()
    features = seen[0].flatten(0, 1).double()
    drawn = torch.Generator().manual_seed(seed)
    prompts, tokens = (torch.randint(4, texts, (4, count), generator=drawn) for count in (9, 16))
    with torch.no_grad():
        kernel, mean = projector.image_projection.weight, features.mean(0)
        blind = kernel.double() - (kernel.double() @ mean).outer(mean) / mean.square().sum()
        kernel.copy_(blind / (features @ blind.T).std(0)[:, None])
        positions = text.encoder.embed_positions, text.decoder.embed_positions
        for table in (text.shared, *positions):  # of pictures the rows are larger: they say more than where they are
            table.weight.mul_(model.config.text_config.d_model**-0.5 / table.weight.std())
        rows = projector.image_proj_norm(projector.image_projection(seen[0]))  # DaViT itself has not changed
        hidden = graphs.encoder(model).encode(prompts, rows)
    text_decoder.vary(
        text.decoder.layers, (text.shared, text.decoder.embed_positions), hidden,
        lambda: text.decoder(tokens, encoder_hidden_states=hidden),
    )  # fmt: skip
