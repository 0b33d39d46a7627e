"""``python record_moondream2.py CHECKOUT FOLDER``, in the export environment: write what Moondream2's own code answers.

CHECKOUT is a folder with vikhyat/moondream at 44146f1. Its code runs on small random weights, in float32, with a small
tokenizer of our own; it fixes the crops' size, the layers of its vision network and the size of a head, so these stay.
FOLDER is where those weights are written.
"""

import json
import sys
from pathlib import Path
from unittest import mock

import torch
from moondream2_sizes import RECORDED, TRUE_CROPS
from PIL import Image

from tritonvision.exporters.families import moondream2
from tritonvision.exporters.parity import sample_pictures

sys.path.insert(0, sys.argv[1])
from moondream.torch import moondream as theirs  # noqa: E402
from moondream.torch import vision  # noqa: E402
from moondream.torch.config import MoondreamConfig, TokenizerConfig  # noqa: E402


def main():
    network = moondream2.random(TRUE_CROPS, 0)
    folder = Path(sys.argv[2])
    folder.mkdir(exist_ok=True)
    network.save(folder)
    sections = json.loads((folder / "config.json").read_text())["config"]
    sections["vision"]["proj_out_dim"] = sections["region"]["dim"] = sections["text"]["dim"]
    sections["region"] |= {"coord_out_dim": 1024, "size_out_dim": 2048}
    small = network._templates
    templates = {
        "caption": {length: small[length] for length in ("short", "normal", "long")},
        **{
            skill: dict(zip(("prefix", "suffix"), small[skill], strict=True))
            for skill in ("query", "detect", "point")
        },
    }
    config = MoondreamConfig.from_dict(sections)
    object.__setattr__(config, "tokenizer", TokenizerConfig(templates=templates))
    with mock.patch.object(theirs.Tokenizer, "from_pretrained", lambda _: network.tokenizer):
        model = theirs.MoondreamModel(config, dtype=torch.float32)
    model.load_state_dict(network._model.state_dict(), strict=False)
    true_crops = vision.prepare_crops

    def prepared(image, config, device):
        """In float32: their own function rounds pixels to bfloat16."""
        with mock.patch.object(torch, "bfloat16", torch.float32):
            return true_crops(image, config, device)

    greedy = {"max_tokens": 23, "temperature": 0}
    answers = []
    with mock.patch.object(theirs, "prepare_crops", prepared):
        for asked in network.conversations():
            text = asked["messages"][0]["content"][-1]["text"]
            pictures = [model.encode_image(Image.fromarray(picture)) for picture in asked["pictures"]]
            skill, _, about = text.partition(": ")
            if skill == "caption":
                said = model.caption(pictures[0], about, settings=greedy)["caption"]
            elif skill in ("detect", "point"):
                said = getattr(model, skill)(pictures[0], about, settings={"max_objects": 4})
            else:
                said = model.query(pictures[0] if pictures else None, text, settings=greedy)["answer"]
            answers.append([text, said])
            print(text, "->", said)
        rows = model._run_vision_encoder(Image.fromarray(sample_pictures.photo()))
    RECORDED.write_text(json.dumps({"answers": answers, "rows": rows[::97, ::16].tolist()}, indent=1) + "\n")


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
