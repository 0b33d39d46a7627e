"""SAM with its three encoders; the reference is transformers' ``SamModel`` behind its ``SamProcessor``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tritonvision.catalog import Entry
from tritonvision.ensembles.entry_points import Composition, Net
from tritonvision.ensembles.tensors import IMAGE_SIZE, VALID_SIZE, Tensor
from tritonvision.exporters import checkpoints
from tritonvision.exporters import weight_files as files
from tritonvision.exporters.contract import NO_CLASSES, Network, ReferencePipeline, Tensors, Tolerance, Weights
from tritonvision.exporters.families.sam import authors, graphs
from tritonvision.exporters.graphs.export import export_onnx
from tritonvision.exporters.libraries import torch_env, transformers_processors, transformers_weights
from tritonvision.exporters.libraries.torch_network import TorchNetwork
from tritonvision.exporters.libraries.transformers_family import TransformersFamily
from tritonvision.exporters.modules import coco_masks, point_prompts
from tritonvision.exporters.modules.normalise import IMAGENET, normalised, without_padding
from tritonvision.exporters.parity import sample_pictures
from tritonvision.python_backend.compositions import promptable_masks
from tritonvision.python_backend.images import resize

if TYPE_CHECKING:
    import torch
    from transformers import SamConfig, SamModel, SamProcessor

    from tritonvision.exporters.libraries.transformers_weights import Loaded

SIDE = 1024  # pixels of the encoder's square frame
# The config.json of each on the hub, as far as it differs from the smallest.
_VISION = {
    "vit_b": {},
    "vit_l": {
        "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
        "global_attn_indexes": [5, 11, 17, 23],
    },
    "vit_h": {
        "hidden_size": 1280, "num_hidden_layers": 32, "num_attention_heads": 16,
        "global_attn_indexes": [7, 15, 23, 31],
    },
}  # fmt: skip
_REPOSITORIES = {"vit_b": "base", "vit_l": "large", "vit_h": "huge"}


def point(side: int = SIDE) -> Composition:
    """The entry point over an encoder of ``side`` pixels: 1024 in every released model, fewer in tests."""
    grid, logits = side // 16, side // 4
    embeddings = Tensor("embeddings", "FP32", (256, grid, grid))
    encoder = Net("encoder", (Tensor("pixels", "UINT8", (side, side, 3)), VALID_SIZE), (embeddings,), instances=1)
    decoder = Net(
        "decoder",
        (
            embeddings, Tensor("point_coords", "FP32", (-1, 2), bounds=(promptable_masks.POINTS,)),
            Tensor("point_labels", "FP32", (-1,), bounds=(promptable_masks.POINTS,)),
            Tensor("mask_input", "FP32", (1, logits, logits)), Tensor("has_mask", "FP32", (1,)),
        ),
        (Tensor("low_res_masks", "FP32", (4, logits, logits)), Tensor("iou_scores", "FP32", (4,))),
    )  # fmt: skip
    return Composition(
        name="promptable-masks",
        version=1,
        task=promptable_masks.TASK,
        nets=(encoder, decoder),
        extra_inputs=(
            Tensor("mask_input", "FP32", (logits, logits), optional=True),
            Tensor("embeddings", "FP32", embeddings.dims, optional=True),
        ),
        outputs=(
            Tensor("masks", "STRING", (-1,)), Tensor("scores", "FP32", (-1,)),
            Tensor("low_res_masks", "FP32", (-1, logits, logits)), embeddings, IMAGE_SIZE,
        ),
        options=(("side", side),),
        size=(side, side),
        image_optional=True,
    )  # fmt: skip


class SAM(TransformersFamily):
    """A picture encoded once, masks decoded prompt by prompt."""

    name = "SAM"
    class_name = "SamModel"
    refusals = NO_CLASSES
    working_memory = 4_500_000_000  # the scores of 16 heads between all positions take a gigabyte, in several copies
    activation_memory = 0.0
    random_note = "Random weights, calibrated only to carry signal: what it selects means nothing."
    tolerance = Tolerance(
        {"embeddings": 5e-5, "low_res_masks": 4e-5, "iou_scores": 4e-5},
        answers={"scores": 1.5e-5, "masks": 1e-3}, relative=frozenset({"embeddings", "low_res_masks", "iou_scores"}),
        causes={"masks": "one pixel of a mask of a thousand; those of random weights are much larger"},
    )  # fmt: skip
    reference_pipeline = ReferencePipeline(
        "transformers", "5.23.0", "SamModel(**SamProcessor(image, prompt)), then post_process_masks"
    )

    def entry_points(self, entry: Entry) -> tuple[Composition]:
        """One Python model over two graphs."""
        return (point(),)

    def repository(self, entry: Entry) -> str:
        """See :meth:`TransformersFamily.repository`."""
        return f"facebook/sam-vit-{_REPOSITORIES[_size(entry)]}"

    def config_of(self, entry: Entry, tensors: Mapping[str, torch.Tensor]) -> SamConfig:
        """See :meth:`TransformersFamily.config_of`."""
        return config(entry)

    def random_network(self, entry: Entry, weights: Weights) -> SAMNetwork:
        """See :meth:`Family.random_network`."""
        return SAMNetwork(random(config(entry), weights.seed))

    def network_from_file(self, entry: Entry, weights: Weights) -> Network:
        """Also the authors' own file."""
        if weights.path is not None and weights.path.suffix == ".pth":
            found = checkpoints.read(files.user_file(weights, (".pth",)))
            state = checkpoints.unwrapped(found.tensors, authors.SOME)
            if set(authors.SOME) <= state.keys():
                model = authors.load(config(entry), state, entry.id)
                return SAMNetwork(model, weights.path.name, sha256=files.sha256(weights.path), notes=found.notes)
        return super().network_from_file(entry, weights)

    def network(self, entry: Entry, weights: Weights, loaded: Loaded) -> SAMNetwork:
        """See :meth:`TransformersFamily.network`."""
        network = SAMNetwork(loaded.module, **loaded.facts)
        transformers_processors.beside(weights, network.processor.image_processor)
        return network


class SAMNetwork(TorchNetwork):
    """One model: transformers' is the reference; the reference pipeline adds its processor."""

    packages = ("transformers",)

    def __init__(self, model: SamModel, source: str = "", **facts: Any):
        """``facts`` are further attributes of :class:`Network`."""
        super().__init__(model, (), source, **facts)
        self._side = model.config.vision_config.image_size
        self._embeddings = point_prompts.LastEncoding(lambda pixels: self._model.get_image_embeddings(pixels))

    def export(self, path: Path, role: str = "") -> None:
        """See :meth:`Network.export`: ``encoder`` or ``decoder``, see :mod:`.graphs`.

        The encoder is traced with one picture, which saves seconds; the batch stays dynamic.
        """
        import torch

        encoder, decoder = point(self._side).nets
        if role == "encoder":
            net, graph, dynamic = encoder, graphs.encoder(self._model), {}
            pixels = torch.zeros(1, self._side, self._side, 3, dtype=torch.uint8)
            examples = [pixels, torch.full((1, 2), self._side, dtype=torch.int32)]
        else:
            net, graph = decoder, graphs.decoder(self._model)
            examples = [torch.from_numpy(value) for value in _prompts(2, 3, self._side).values()]
            dynamic = {"point_coords": {1: "points"}, "point_labels": {1: "points"}}
        inputs, outputs = (tuple(tensor.name for tensor in tensors) for tensors in (net.inputs, net.outputs))
        export_onnx(graph, examples, path, inputs, outputs, dynamic)

    def tensors(self, inputs: Mapping[str, np.ndarray], double: bool = False, role: str = "") -> Tensors:
        """See :meth:`Network.tensors`."""
        import torch

        dtype = torch.float64 if double else torch.float32
        model = self.reference(double)
        with torch.inference_mode():
            if role == "encoder":
                images = normalised(inputs["pixels"], IMAGENET, double)
                without_padding(images, inputs["valid_size"])
                # one by one: the scores between all positions of a picture take gigabytes
                return {"embeddings": np.concatenate([model.vision_encoder(one)[0].numpy() for one in images.split(1)])}
            rows = [self._decoded({n: torch.from_numpy(v[i : i + 1]) for n, v in inputs.items()}, model, dtype)
                    for i in range(len(inputs["embeddings"]))]  # fmt: skip
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}

    @staticmethod
    def _decoded(prompt: Mapping[str, torch.Tensor], model: SamModel, dtype: torch.dtype) -> Tensors:
        """One prompt as ``SamModel`` takes it: the box is another input, and the model adds the padding point."""
        import torch

        points, labels = prompt["point_coords"].to(dtype), prompt["point_labels"]
        boxed = labels[0, -2:].tolist() == [2, 3]
        given: dict[str, Any] = {"input_masks": prompt["mask_input"].to(dtype) if prompt["has_mask"] > 0.5 else None}
        kept = labels.shape[1] - (2 if boxed else 1)
        if boxed:
            given["input_boxes"] = points[:, -2:].reshape(1, 1, 4)
        elif labels[0, -1] != -1:
            raise ValueError("A prompt without a box ends with a point that is none.")
        if kept:
            given |= {"input_points": points[:, None, :kept], "input_labels": labels[:, None, :kept].to(dtype)}
        answers = [
            model(image_embeddings=prompt["embeddings"].to(dtype), multimask_output=many, **given)
            for many in (False, True)
        ]
        return {
            "low_res_masks": torch.cat([answer.pred_masks[:, 0] for answer in answers], 1).numpy(),
            "iou_scores": torch.cat([answer.iou_scores[:, 0] for answer in answers], 1).numpy(),
        }

    def predict(self, sample: np.ndarray, parameters: Mapping[str, Any], role: str = "") -> Tensors:
        """See :meth:`Network.predict`. An empty prompt is one padding point, which the processor cannot express."""
        import torch

        points, labels = parameters["points"], parameters["point_labels"]
        if not points and parameters["box"] is None:
            points, labels = [[0, 0]], [-1]
        given: dict[str, Any] = {}
        if points:
            given["input_points"] = [[list(map(float, point)) for point in points]]
            given["input_labels"] = [[int(label) for label in labels or [1] * len(points)]]
        if parameters["box"] is not None:
            given["input_boxes"] = [[list(map(float, parameters["box"]))]]
        processed = self.processor(sample, return_tensors="pt", **given)
        prompt = {name: processed[name] for name in given}
        with torch.inference_mode():
            embeddings = self._embeddings(processed["pixel_values"])
            answer = self._model(image_embeddings=embeddings, multimask_output=parameters["multimask"], **prompt)
        sizes = processed["original_sizes"], processed["reshaped_input_sizes"]
        (found,) = self.processor.image_processor.post_process_masks(answer.pred_masks.clone(), *sizes)
        return {
            "masks": np.array([coco_masks.counts(mask) for mask in found[0].numpy()], dtype=object),
            "scores": answer.iou_scores[0, 0].numpy(),
            "low_res_masks": answer.pred_masks[0, 0].numpy(),
            "image_size": np.array(sample.shape[:2], dtype=np.int32),
        }

    @cached_property
    def processor(self) -> SamProcessor:
        """The library's processor, with the settings of the released weights."""
        from transformers import SamImageProcessor, SamProcessor

        pad = {"height": self._side, "width": self._side}
        return SamProcessor(SamImageProcessor(size={"longest_edge": self._side}, pad_size=pad))

    def examples(self, role: str) -> dict[str, Tensors]:
        """See :meth:`Network.examples`: pictures with padding below and beside, prompts of every kind."""
        if role == "encoder":
            wide, tall = (
                resize.longest(sample_pictures.views()[name], self._side, self._side)
                for name in ("wide-512x260", "tall-300x512")
            )
            sizes = np.array([geometry.valid_size for _, geometry in (wide, tall)], dtype=np.int32)
            pixels = np.stack([picture for picture, _ in (wide, tall)])
            pixels[0, sizes[0, 0] :] = pixels[1, :, sizes[1, 1] :] = 77  # must not change the answer
            return {
                "the photo": {"pixels": pixels[:1], "valid_size": sizes[:1]},
                "two pictures": {"pixels": pixels, "valid_size": sizes},
            }
        padded, boxed, both = (_prompts(batch, count, self._side) for batch, count in ((2, 3), (1, 2), (1, 4)))
        boxed["point_labels"][:] = 2, 3
        both["point_labels"][:] = 1, 0, 2, 3
        both["has_mask"][:] = 1
        return {"two prompts of points": padded, "a box": boxed, "a box, points and a mask": both}

    def questions(self) -> list[dict[str, Any]]:
        """See :meth:`Network.questions`."""
        return [dict(question) for question in point_prompts.QUESTIONS]


def config(entry: Entry, side: int = SIDE) -> SamConfig:
    """The configuration of one id."""
    torch_env.import_torchvision()
    from transformers import SamConfig, SamPromptEncoderConfig, SamVisionConfig

    vision = SamVisionConfig(image_size=side, **_VISION[_size(entry)])
    return SamConfig(vision_config=vision, prompt_encoder_config=SamPromptEncoderConfig(image_size=side))


def _size(entry: Entry) -> str:
    return entry.id.removeprefix("sam-")


def random(config: SamConfig, seed: int) -> SamModel:
    """The true architecture with random weights whose masks cover some of a picture and differ between prompts.

    Relative position embeddings, whose products are not divided by sqrt(d) as other scores are, get a tenth of the
    standard deviation: otherwise attention would select a single position. The mean of the decoder's features is
    projected out of its last layers, so that logits have both signs.
    """
    import torch
    from transformers import SamModel

    model = transformers_weights.random(SamModel, config, seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "rel_pos" in name:
                parameter.mul_(0.1)
            elif name.endswith("vision_encoder.pos_embed"):
                parameter.mul_(0.5)
        pictures = []
        hook = model.mask_decoder.upscale_conv2.register_forward_hook(
            lambda layer, inputs, output: pictures.append(model.mask_decoder.activation(output))
        )
        prompts = [torch.from_numpy(value) for value in _prompts(4, 3, config.vision_config.image_size).values()]
        decoder = graphs.decoder(model).eval()
        decoder(*prompts)
        hook.remove()
        mean = pictures[0].mean((0, 2, 3))
        mean = mean / mean.norm()
        for network in model.mask_decoder.output_hypernetworks_mlps:
            last = network.proj_out
            last.weight -= mean[:, None] @ (mean[None] @ last.weight)
            last.bias -= mean * (mean @ last.bias)
        spread = decoder(*prompts)[0].std((0, 2, 3))
        for network, factor in zip(model.mask_decoder.output_hypernetworks_mlps, 5 / spread, strict=True):
            network.proj_out.weight *= factor
            network.proj_out.bias *= factor
    return model


def _prompts(batch: int, count: int, side: int) -> Tensors:
    """Inputs of the decoder: ``count`` points, the last of which is padding, and a mask that is switched off."""
    rng = np.random.default_rng(count)
    labels = np.tile(np.array([1, 0], np.float32)[np.arange(count) % 2], (batch, 1))
    labels[:, -1] = -1
    return {
        "embeddings": rng.normal(size=(batch, 256, side // 16, side // 16)).astype(np.float32),
        "point_coords": rng.uniform(0, side, (batch, count, 2)).astype(np.float32),
        "point_labels": labels,
        "mask_input": (5 * rng.normal(size=(batch, 1, side // 4, side // 4))).astype(np.float32),
        "has_mask": np.zeros((batch, 1), dtype=np.float32),
    }


FAMILY = SAM()
