"""Moondream2: overlapping crops through SigLIP into the prefix of a small decoder, which writes words or places."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tritonvision.catalog import Entry
from tritonvision.ensembles.entry_points import Chat, Net
from tritonvision.ensembles.model_configs import TOKENIZER
from tritonvision.ensembles.tensors import Tensor
from tritonvision.errors import ExportFailed
from tritonvision.exporters import checkpoints
from tritonvision.exporters import weight_files as files
from tritonvision.exporters.contract import NO_CLASSES, ReferencePipeline, Tensors, Tolerance, Weights
from tritonvision.exporters.families.moondream2.sizes import REDUCED, RELEASED, Config
from tritonvision.exporters.graphs.export import export_onnx
from tritonvision.exporters.libraries.torch_network import TorchFamily, TorchNetwork
from tritonvision.exporters.modules import causal_decoder
from tritonvision.exporters.parity import sample_pictures
from tritonvision.exporters.parity.checks.chat import PICTURE, sample, says
from tritonvision.exporters.synthetic.tokenizers import byte_pairs
from tritonvision.python_backend.vlm.moondream2 import ANSWER, BEGIN, COORDINATE, TEMPLATES, Reader, skill_of

if TYPE_CHECKING:
    import tokenizers

    from tritonvision.exporters.families.moondream2.network import Moondream

_REPOSITORY, _TOKENIZERS = "vikhyatk/moondream2", "moondream/starmie-v1"
_SUFFIXES = (".safetensors", ".pt", ".pth")
_SIZE_TOKEN = 6
_FEW_LAYERS = "It was measured with two or three layers; the released network has 27 and 24, and an error in each."
# Ids of the control tokens, as the author's TokenizerConfig has them; the names of most are unknown without the file.
SPECIAL = {
    "<|endoftext|>": BEGIN, "<|md_reserved_0|>": 1, "<|md_reserved_1|>": 2, "<|md_reserved_2|>": ANSWER,
    "<|md_reserved_3|>": 4, "<|coord|>": COORDINATE, "<|size|>": _SIZE_TOKEN, "<|start_ground|>": 7,
    "<|md_reserved_4|>": 8, "<|end_ground|>": 9,
}  # fmt: skip
# The released templates hold ids of a large vocabulary; those of a small one are any of its words.
_SMALL_TEMPLATES = {
    "query": [[1, 40, 2], [3]], "detect": [[1, 41, 42, 2], [3]], "point": [[1, 43, 2], [3]],
    "short": [1, 44, 2, 45, 3], "normal": [1, 44, 2, 46, 3], "long": [1, 44, 2, 47, 3],
}  # fmt: skip


class Moondream2(TorchFamily):
    """A network of our own, from the facts of the author's code; greedy throughout."""

    name = "Moondream2"
    refusals = NO_CLASSES
    random_note = "Random weights and a small vocabulary, calibrated only to carry signal: what it says means nothing."
    working_memory = 2_500_000_000  # the attention of thirteen crops at once
    activation_memory = 0.0
    tolerance = Tolerance(
        {"image_embeds": 1e-4, "inputs_embeds": 1e-5, "logits": 1e-4, "present.key": 1e-4, "present.value": 1e-4},
        relative=frozenset({"image_embeds"}),
        causes=dict.fromkeys(("image_embeds", "present.key", "present.value"), _FEW_LAYERS),
    )  # fmt: skip
    reference_pipeline = ReferencePipeline(
        "vikhyat/moondream", "44146f1",
        "MoondreamModel.query, caption, detect and point with temperature 0, in float32; here its loop is written once "
        "more, and a test compares that with answers recorded of the author's own code",
    )  # fmt: skip

    def entry_points(self, entry: Entry) -> tuple[Chat]:
        """One chat model over three graphs."""
        return (point(RELEASED),)

    def random_network(self, entry: Entry, weights: Weights) -> Moondream2Network:
        """See :meth:`Family.random_network`."""
        return random(RELEASED, weights.seed)

    def official_network(self, entry: Entry, weights: Weights) -> Moondream2Network:
        """See :meth:`Family.official_network`."""
        settings = json.loads(files.hub_file(_REPOSITORY, "config.json").read_bytes())
        words = files.hub_file(_TOKENIZERS, TOKENIZER).read_text(encoding="utf-8")
        file = files.hub_file(_REPOSITORY, "model.safetensors")
        return _loaded(file, Config.of(settings.get("config") or {}), words, None, _REPOSITORY)

    def network_from_file(self, entry: Entry, weights: Weights) -> Moondream2Network:
        """See :meth:`Family.network_from_file`: a folder of weights, ``config.json`` and ``tokenizer.json``."""
        folder = weights.path
        if folder is None or not (folder / TOKENIZER).is_file() or not (folder / "config.json").is_file():
            raise ExportFailed(
                f"The weights of {entry.id} are a folder of weights, config.json and {TOKENIZER}.",
                hint=f"{TOKENIZER} is published as {_TOKENIZERS}.",
            )
        try:
            settings = json.loads((folder / "config.json").read_bytes())
            config = Config.of(settings.get("config") or {})
            templates = settings.get("templates")
        except (ValueError, TypeError, AttributeError) as error:
            raise ExportFailed("The folder's config.json is none of Moondream2.") from error
        words = (folder / TOKENIZER).read_text(encoding="utf-8")
        return _loaded(files.user_file(weights, _SUFFIXES), config, words, templates, folder.name)


class Moondream2Network(TorchNetwork):
    """Our network is the reference of the graphs; the reference pipeline is :mod:`.loop` over it."""

    packages = ("tokenizers", "pillow")

    def __init__(
        self, model: Moondream, words: str, templates: Mapping[str, Any] | None = None, source: str = "", **facts: Any
    ):  # fmt: skip
        """``words`` is the text of a ``tokenizer.json``; ``facts`` are further attributes of :class:`Network`."""
        super().__init__(model, (), source, **facts)
        self._words, self._templates = words, templates
        found = point(model.config, templates)
        self.entry_points, self._options = (found,), dict(found.options)

    def export(self, path: Path, role: str = "") -> None:
        """See :meth:`Network.export`: ``vision``, ``embed`` or ``decoder``."""
        import torch

        from tritonvision.exporters.families.moondream2 import network

        config = self._model.config.decoder
        if role == "decoder":
            causal_decoder.write_decoder(network.Decoder(self._model), config, path, bidirectional=True)
        elif role == "embed":
            causal_decoder.export_embed(network.Embed(self._model), config, path)
        else:
            example = self.examples("vision")["two pictures"]
            given = [torch.from_numpy(value) for value in example.values()]
            inputs = tuple(tensor.name for tensor in self.entry_points[0].nets[0].inputs)
            axes = {"pixels": {1: "crops"}, "places": {1: "height", 2: "width"}}
            axes |= {"rows": {2: "height"}, "columns": {2: "width"}}
            export_onnx(self._model.vision, given, path, inputs, ("image_embeds",), axes)

    def tensors(self, inputs: Mapping[str, np.ndarray], double: bool = False, role: str = "") -> Tensors:
        """See :meth:`Network.tensors`."""
        import torch

        from tritonvision.exporters.families.moondream2 import network

        dtype, model = torch.float64 if double else torch.float32, self.reference(double)
        given = {name: torch.from_numpy(value) for name, value in inputs.items()}
        given = {name: value.to(dtype) if value.is_floating_point() else value for name, value in given.items()}
        with torch.inference_mode():
            if role == "decoder":
                found = network.Decoder(model)(*given.values())
                names = [tensor.name for tensor in causal_decoder.decoder_net(model.config.decoder).outputs]
                return {name: value.numpy() for name, value in zip(names, found, strict=True)}
            if role == "embed":
                return {"inputs_embeds": model.embed(given["input_ids"]).numpy()}
            return {"image_embeds": model.vision(**given).numpy()}

    def predict(self, sample: Mapping[str, Any], parameters: Mapping[str, Any], role: str = "") -> Tensors:
        """See :meth:`Network.predict`; ``sample`` has one message and at most one picture. Only the limit of tokens of
        the settings is applied.
        """
        import torch

        from tritonvision.exporters.families.moondream2.loop import Loop, rounded

        (message,) = sample["messages"]
        text = "".join(part["text"] for part in message["content"] if part["type"] == "text")
        skill, about = skill_of(text)
        prompt = self._prompt(skill, about)
        most, loop = parameters["max_new_tokens"], Loop(self._model)
        with torch.inference_mode():
            for picture in sample["pictures"]:
                loop.look(picture)
            if skill in ("query", "caption"):
                start = prompt if sample["pictures"] else [BEGIN, *prompt]
                ids = loop.write(start, most)
                said = self.tokenizer.decode(ids, skip_special_tokens=True)
            else:
                kind = "objects" if skill == "detect" else "points"
                found = rounded(loop.find(prompt, skill == "detect", most))
                ids, said = loop.taken, json.dumps({"object": about, kind: found})
        read = len(prompt) + 1 + self._model.config.grid**2 * len(sample["pictures"])
        return {
            "token_ids": np.array(ids, dtype=np.int64),
            "text": np.array([said], dtype=object),
            "finish_reason": np.array(["stop" if ids[-1] == BEGIN else "length"], dtype=object),
            "usage": np.array([read, len(ids)], dtype=np.int32),
        }

    @property
    def tokenizer(self) -> tokenizers.Tokenizer:
        """Its tokenizer."""
        import tokenizers

        return tokenizers.Tokenizer.from_str(self._words)

    def reader(self) -> Reader:
        """The prompt of the served model."""
        return Reader(self._options, self.tokenizer)

    def _prompt(self, skill: str, about: str) -> list[int]:
        """The tokens of a prompt behind those of the picture."""
        templates = self._templates or TEMPLATES
        if skill == "caption":
            return [*templates[about]]
        before, after = templates[skill]
        if skill == "query":
            return [*before, *self.tokenizer.encode(about, add_special_tokens=False).ids, *after, *after]
        return [*before, *self.tokenizer.encode(f" {about}", add_special_tokens=False).ids, *after]

    def conversations(self) -> list[dict[str, Any]]:
        """See :meth:`Network.conversations`: one of each skill, and a question without a picture."""
        photo = sample_pictures.photo()
        strip, other = photo[200:264], photo[300:420, ::-1]
        asked = (
            (photo, "What is in this picture?"), (None, "Who are you?"), (other, "caption: short"),
            (strip, "point: face"), (photo[:300], "detect: person"),
        )  # fmt: skip
        return [
            sample([], says("user", text)) if picture is None else sample([picture], says("user", PICTURE, text))
            for picture, text in asked
        ]

    def examples(self, role: str) -> dict[str, Tensors]:
        """See :meth:`Network.examples`."""
        config = self._model.config
        if role == "decoder":
            return causal_decoder.examples(config.decoder, bidirectional=True)
        if role == "embed":
            words = config.text_vocab_size
            ids = np.array([[0, 1, words - 1, words, words + 1023], [5, 7, words + 512, words + 1024, words + 600_000]])
            return {"some words": {"input_ids": ids[:1, :3]}, "words and places": {"input_ids": ids}}
        side = config.vision_crop_size
        reader, photo = self.reader(), sample_pictures.photo()
        two = [reader.vision_inputs(picture) for picture in (photo[:256, :256], sample_pictures.noise(256, 256))]
        return {
            "two pictures": {name: np.concatenate([one[name] for one in two]) for name in two[0]},
            "a wide strip": dict(reader.vision_inputs(photo[200:264])),
            "a picture of one crop": dict(reader.vision_inputs(sample_pictures.noise(side // 2, side // 2))),
        }

    def assets(self, role: str) -> dict[str, bytes]:
        """See :meth:`Network.assets`: the tokenizer."""
        return {TOKENIZER: self._words.encode()}

    def save(self, folder: Path) -> None:
        """Write a folder that the export takes as weights."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        sections: dict[str, dict[str, int]] = {"text": {}, "vision": {}, "region": {}}
        for name, value in asdict(self._model.config).items():
            section, _, field = name.partition("_")
            sections[section][field] = value
        settings = {"config": sections, **({"templates": self._templates} if self._templates else {})}
        (folder / "config.json").write_text(json.dumps(settings))
        (folder / TOKENIZER).write_text(self._words, encoding="utf-8")
        tensors = {f"model.{name}": value.contiguous() for name, value in self._model.state_dict().items()}
        save_file(tensors, folder / "model.safetensors")


def save_reduced(folder: Path, seed: int = 0) -> None:
    """Write random weights of the reduced size with their tokenizer, which tests publish and serve."""
    random(REDUCED, seed).save(folder)


def random(config: Config, seed: int) -> Moondream2Network:
    """The architecture with random weights whose answers vary and depend on the picture, and a small vocabulary."""
    import tokenizers

    from tritonvision.exporters.families.moondream2 import synthetic

    words = byte_pairs.byte_pairs(SPECIAL)
    said = sorted(set(json.loads(words)["model"]["vocab"].values()) - set(SPECIAL.values()))
    reader = Reader(dict(point(config).options), tokenizers.Tokenizer.from_str(words))
    return Moondream2Network(synthetic.random(config, said, reader, seed), words, _SMALL_TEMPLATES)


def point(config: Config, templates: Mapping[str, Any] | None = None) -> Chat:
    """The entry point of a network of these sizes."""
    side, rows = config.vision_crop_size, config.grid**2
    inputs = (
        Tensor("pixels", "UINT8", (-1, side, side, 3)), Tensor("places", "INT64", (-1, -1)),
        Tensor("rows", "FP32", (config.grid, -1)), Tensor("columns", "FP32", (config.grid, -1)),
    )  # fmt: skip
    vision = Net("vision", inputs, (Tensor("image_embeds", "FP32", (rows, config.text_dim)),), 1)
    text = config.decoder
    nets = vision, causal_decoder.embed_net(text), causal_decoder.decoder_net(text, bidirectional=True)
    options: dict[str, Any] = {
        "side": side, "patch": config.vision_enc_patch_size, "margin": config.vision_overlap_margin,
        "crops": config.vision_max_crops, "words": config.text_vocab_size, "end_ids": (BEGIN,),
        "context": config.text_max_context, "grounding": "moondream",
    }  # fmt: skip
    if templates:
        options["templates"] = json.dumps(templates)
    return Chat("moondream2", nets, tuple(sorted(options.items())), (side, side))


def _loaded(
    file: Path, config: Config, words: str, templates: Mapping[str, Any] | None, source: str
) -> Moondream2Network:
    from tritonvision.exporters.families.moondream2.network import Moondream

    model, found = Moondream(config), checkpoints.read(file)
    tensors = checkpoints.unwrapped(found.tensors, model.state_dict().keys())
    checkpoints.load_into(model, tensors, _REPOSITORY, "They must be named as in the release of June 2025.")
    return Moondream2Network(model, words, templates, source, sha256=files.sha256(file), notes=found.notes)


FAMILY = Moondream2()
