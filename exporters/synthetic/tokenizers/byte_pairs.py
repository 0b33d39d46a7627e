"""Small byte-level tokenizers for exports of random weights, which cannot download the released one.

They are trained on fixed texts, which is quick, and the same version of ``tokenizers`` always gives the same file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from tritonvision.exporters.parity import text_pages

VOCABULARY = 1000  # tokens beside the special ones
# Questions about pictures and their answers; the text of the test pages alone is too short to train on.
_PROSE = """
What is in this picture? The picture shows an astronaut in an orange suit who stands in front of a flag and smiles.
Describe the image in one sentence. A brown dog runs over wet grass and carries a stick that is longer than itself.
How many people are there? There are three people: two of them sit on a bench, the third one waits for the next bus.
Which colour has the car on the left? The car on the left is dark green, and the one behind it is white with a stripe.
Is the door open or closed? It is closed, but the window above the door is open and a curtain hangs out of it.
Read the sign for me, please. The sign says that the road is closed between eight in the morning and six at night.
What would you do here? I would turn right at the corner, walk along the river, and look for a place with some shade.
Where was this photograph taken? Probably in a kitchen, since a kettle, several plates and a bowl of apples can be seen.
The answer depends on the question: a model that does not look at the picture says the same about every picture.
Compare both images. The first was taken from above and in daylight; the second is blurred, much darker, and closer.
Does anything look unusual? The shadow of the tree points towards the sun, so the image is likely to be a drawing.
Answer with a number only. Seven. Give a short title. Children playing chess. Name the objects from left to right.
A bicycle without its front wheel, a yellow umbrella, two suitcases, and a clock whose hands have stopped at noon.
Which season is shown? Autumn: leaves lie on the pavement, the vineyard is yellow, and somebody has lit a bonfire.
Can you see an animal? No animal is visible, although fresh footprints cross the snow from the gate to the barn.
"""


def byte_pairs(special: Mapping[str, int]) -> str:
    """A byte-level BPE as GPT-2's family has it, digits one by one: the text of its ``tokenizer.json``.

    Args:
        special: special tokens with their ids. All others fill the free ids from the lowest on.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([text_pages.TEXT, _PROSE], trainer)
    file = json.loads(tokenizer.to_str())
    taken = set(special.values())
    free = (id for id in range(VOCABULARY + len(special)) if id not in taken)
    vocabulary = sorted(file["model"]["vocab"], key=file["model"]["vocab"].get)
    file["model"]["vocab"] = dict(zip(vocabulary, free, strict=False)) | dict(special)
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    file["added_tokens"] = [
        {"id": id, "content": token, "special": True, **plain}
        for token, id in sorted(special.items(), key=lambda item: item[1])
    ]
    return json.dumps(file)
