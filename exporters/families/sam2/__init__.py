"""SAM2 on pictures with its four encoders; the reference is transformers' ``Sam2Model`` behind its ``Sam2Processor``.

Released weights are those of 2.1; the files of 2.0, whose architecture for pictures is the same, are read as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tritonvision.catalog import Entry
from tritonvision.ensembles.entry_points import Composition, Net
from tritonvision.ensembles.tensors import IMAGE_SIZE, Tensor
from tritonvision.errors import ExportFailed
from tritonvision.exporters import checkpoints
from tritonvision.exporters import weight_files as files
from tritonvision.exporters.contract import NO_CLASSES, Network, ReferencePipeline, Tensors, Tolerance, Weights
from tritonvision.exporters.families.sam2 import authors, configs, graphs
from tritonvision.exporters.graphs.export import export_onnx
from tritonvision.exporters.libraries import transformers_processors
from tritonvision.exporters.libraries.torch_network import TorchNetwork
from tritonvision.exporters.libraries.transformers_family import TransformersFamily
from tritonvision.exporters.modules import coco_masks, point_prompts
from tritonvision.exporters.modules.normalise import IMAGENET, normalised
from tritonvision.exporters.parity import sample_pictures
from tritonvision.python_backend.compositions import promptable_masks
from tritonvision.python_backend.images import resize

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, Sam2Config, Sam2Model, Sam2Processor

    from tritonvision.exporters.libraries.transformers_weights import Loaded

SIDE = configs.SIDE
_REPOSITORIES = {"tiny": "tiny", "small": "small", "base": "base-plus", "large": "large"}
_POINTS = 2, 2, 256 + 3  # least, usual and most of a prompt: a box is two, and the last one is none
_PROMPTS = 1, 1, promptable_masks.AT_ONCE
_BOUNDS = (_PROMPTS, _POINTS)
_DOUBT = 0.005  # of a stability, by which grey levels may change it


def features(side: int = SIDE) -> tuple[Tensor, ...]:
    """What the encoder emits."""
    return (
        Tensor("embeddings", "FP32", (256, side // 16, side // 16)),
        Tensor("high_res_s0", "FP32", (32, side // 4, side // 4)),
        Tensor("high_res_s1", "FP32", (64, side // 8, side // 8)),
    )


def encoder(side: int = SIDE) -> Net:
    """The network that runs once for each picture."""
    return Net("encoder", (Tensor("pixels", "UINT8", (side, side, 3)),), features(side), instances=1)


def decoder_inputs(side: int = SIDE) -> tuple[Tensor, ...]:
    """What the decoder reads: features, and prompts about them."""
    small = side // 4
    return (
        *features(side), Tensor("point_coords", "FP32", (-1, -1, 2), bounds=_BOUNDS),
        Tensor("point_labels", "FP32", (-1, -1), bounds=_BOUNDS),
        Tensor("mask_input", "FP32", (-1, 1, small, small), bounds=(_PROMPTS,)),
        Tensor("has_mask", "FP32", (-1, 1), bounds=(_PROMPTS,)),
    )  # fmt: skip


def masks(side: int = SIDE) -> tuple[Tensor, ...]:
    """What every decoder emits."""
    small = side // 4
    return (
        Tensor("low_res_masks", "FP32", (-1, 4, small, small), bounds=(_PROMPTS,)),
        Tensor("iou_scores", "FP32", (-1, 4), bounds=(_PROMPTS,)),
    )


def point(side: int = SIDE, offset: float = 0.05, stable: float = 0.98) -> Composition:
    """The entry point over an encoder of ``side`` pixels: 1024 in every released model, fewer in tests.

    Args:
        offset, stable: of the configuration, when a single answer is the first mask:
            :class:`~tritonvision.python_backend.compositions.promptable_masks.Filled`.
    """
    small = side // 4
    emitted = features(side)
    filled = {"levels": list(graphs.LEVELS), "offset": offset, "stable": stable}
    return Composition(
        name="promptable-masks",
        version=1,
        task=promptable_masks.TASK,
        nets=(encoder(side), Net("decoder", decoder_inputs(side), masks(side))),
        extra_inputs=(
            Tensor("mask_input", "FP32", (small, small), optional=True),
            *(Tensor(tensor.name, "FP32", tensor.dims, optional=True) for tensor in emitted),
        ),
        outputs=(
            Tensor("masks", "STRING", (-1,)), Tensor("scores", "FP32", (-1,)),
            Tensor("low_res_masks", "FP32", (-1, small, small)), *emitted, IMAGE_SIZE,
        ),
        options=(("filled", filled), ("side", side)),
        size=(side, side),
        image_optional=True,
    )  # fmt: skip


class SAM2(TransformersFamily):
    """A picture encoded once, masks decoded prompt by prompt."""

    name = "SAM2"
    class_name = "Sam2Model"
    refusals = NO_CLASSES
    random_note = "Random weights, calibrated only to carry signal: what it selects means nothing."
    tolerance = Tolerance(
        {
            "embeddings": 2.4e-5, "high_res_s0": 1.9e-5, "high_res_s1": 2.1e-5, "low_res_masks": 2e-5,
            "iou_scores": 9e-6,
        },
        answers={"scores": 5e-5, "masks": 1e-3},
        relative=frozenset({"embeddings", "high_res_s0", "high_res_s1", "low_res_masks", "iou_scores"}),
        causes={
            "masks": "one pixel of a mask of a thousand; those of random weights are much larger",
            "scores": "of pictures that are made smaller, two libraries round grey levels otherwise",
        },
    )  # fmt: skip
    reference_pipeline = ReferencePipeline(
        "transformers", "5.23.0", "Sam2Model(**Sam2Processor(image, prompt)), then post_process_masks"
    )

    def entry_points(self, entry: Entry) -> tuple[Composition]:
        """One Python model over two graphs."""
        return (point(),)

    def repository(self, entry: Entry) -> str:
        """See :meth:`TransformersFamily.repository`."""
        return f"facebook/sam2.1-hiera-{_REPOSITORIES[entry.id.rpartition('-')[2]]}"

    def config_of(self, entry: Entry, tensors: Mapping[str, torch.Tensor]) -> PretrainedConfig:
        """See :meth:`TransformersFamily.config_of`."""
        return config(entry)

    def random_network(self, entry: Entry, weights: Weights) -> Network:
        """See :meth:`Family.random_network`."""
        return SAM2Network(configs.random(self.model_class(), config(entry), weights.seed))

    def network_from_file(self, entry: Entry, weights: Weights) -> Network:
        """Also the authors' own file."""
        if weights.path is not None and weights.path.suffix in (".pt", ".pth"):
            found = checkpoints.read(files.user_file(weights, (".pt", ".pth")))
            state = checkpoints.unwrapped(found.tensors, authors.SOME)
            if set(authors.SOME) <= state.keys():
                model = authors.load(self.model_class(), self.config_of(entry, state), state, entry.id)
                facts = {"sha256": files.sha256(weights.path), "notes": found.notes}
                return self.built(model, weights.path.name, **facts)
        return super().network_from_file(entry, weights)

    def built(self, model: PreTrainedModel, source: str = "", **facts: Any) -> SAM2Network:
        """The network around a model with its weights."""
        return SAM2Network(model, source, **facts)

    def network(self, entry: Entry, weights: Weights, loaded: Loaded) -> SAM2Network:
        """See :meth:`TransformersFamily.network`."""
        network = self.built(loaded.module, **loaded.facts)
        transformers_processors.beside(weights, network.processor.image_processor)
        return network


class SAM2Network(TorchNetwork):
    """One model: transformers' is the reference; the reference pipeline adds its processor."""

    packages = ("transformers",)

    def __init__(self, model: Sam2Model, source: str = "", **facts: Any):
        """``facts`` are further attributes of :class:`Network`."""
        super().__init__(model, (), source, **facts)
        self._side = model.prompt_encoder.input_image_size
        self._features = point_prompts.LastEncoding(lambda pixels: self._model.get_image_embeddings(pixels))
        decoding = model.config.mask_decoder_config
        if not decoding.dynamic_multimask_via_stability:
            raise ExportFailed("These are weights of another SAM2: its single answer does not depend on its stability.")
        self.entry_points = (
            point(
                self._side, decoding.dynamic_multimask_stability_delta, decoding.dynamic_multimask_stability_thresh
            ),
        )

    def export(self, path: Path, role: str = "") -> None:
        """See :meth:`Network.export`: ``encoder`` or ``decoder``, see :mod:`.graphs`.

        The encoder is traced with one picture, which saves seconds; the batch stays dynamic.
        """
        import torch

        net = next(net for net in self.entry_points[0].nets if net.role == role)
        if role == "encoder":
            graph, examples = graphs.encoder(self._model), [torch.zeros(1, self._side, self._side, 3).to(torch.uint8)]
        else:
            graph = graphs.decoder(self._model)
            examples = [torch.from_numpy(value) for value in configs.prompts(2, 2, 3, self._side).values()]
        export_graph(graph, examples, path, net)

    def tensors(self, inputs: Mapping[str, np.ndarray], double: bool = False, role: str = "") -> Tensors:
        """See :meth:`Network.tensors`."""
        import torch

        model = self.reference(double)
        with torch.inference_mode():
            if role == "encoder":
                found = model.get_image_embeddings(normalised(inputs["pixels"], IMAGENET, double))
                fine, middle, coarse = (features.numpy() for features in found)
                return {"embeddings": coarse, "high_res_s0": fine, "high_res_s1": middle}
            return decoded(model, inputs, double)

    def predict(self, sample: Any, parameters: Mapping[str, Any], role: str = "") -> Tensors:
        """See :meth:`Network.predict`. Without a prompt the model adds a point that is none."""
        import torch

        features, prompt, processed = self._prepared(sample, parameters)
        with torch.inference_mode():
            answer = self._model(image_embeddings=features, multimask_output=parameters["multimask"], **prompt)
        (found,) = self.processor.post_process_masks(answer.pred_masks.clone(), processed["original_sizes"])
        return {
            "masks": np.array([coco_masks.counts(mask) for mask in found[0].numpy()], dtype=object),
            "scores": answer.iou_scores[0, 0].numpy(),
            "low_res_masks": answer.pred_masks[0, 0].numpy(),
            "image_size": np.array(sample.shape[:2], dtype=np.int32),
        }

    def _prepared(
        self, sample: np.ndarray, parameters: Mapping[str, Any]
    ) -> tuple[list[torch.Tensor], dict[str, torch.Tensor], Any]:
        """A picture and a prompt as the model takes them: features, prompt, and all that the processor made."""
        points, labels = parameters.get("points"), parameters.get("point_labels")
        given: dict[str, Any] = {}
        if points:
            given["input_points"] = [[[list(map(float, point)) for point in points]]]
            given["input_labels"] = [[[int(label) for label in labels or [1] * len(points)]]]
        if parameters.get("box") is not None:
            given["input_boxes"] = [[list(map(float, parameters["box"]))]]
        processed = self.processor(sample, return_tensors="pt", **given)
        return self._features(processed["pixel_values"]), {name: processed[name] for name in given}, processed

    @cached_property
    def processor(self) -> Sam2Processor:
        """The library's processor, with the settings of the released weights."""
        from transformers import Sam2ImageProcessor, Sam2Processor

        size = {"height": self._side, "width": self._side}
        return Sam2Processor(Sam2ImageProcessor(size=size), target_size=self._side)

    def examples(self, role: str) -> dict[str, Tensors]:
        """See :meth:`Network.examples`: pictures of other aspects, prompts of every kind."""
        if role == "encoder":
            views = (sample_pictures.views()[name] for name in ("wide-512x260", "tall-300x512"))
            pixels = np.stack([resize.squash(view, self._side, self._side)[0] for view in views])
            return {"the photo": {"pixels": pixels[:1]}, "two pictures": {"pixels": pixels}}
        return prompts_of_every_kind(self._side)

    def questions(self) -> list[dict[str, Any]]:
        """See :meth:`Network.questions`.

        Where a stability lies so close to its bar that grey levels decide whether the first mask is the single answer,
        three proposals are asked for: two pipelines that both are right may differ there.
        """
        return [
            {**question, "multimask": True} if not question.get("multimask", True) and self._in_doubt(question)
            else dict(question) for question in point_prompts.QUESTIONS
        ]  # fmt: skip

    def _in_doubt(self, question: Mapping[str, Any]) -> bool:
        import torch

        decoder = self._model.mask_decoder
        with torch.inference_mode(), choosing(decoder, False):
            features, prompt, _ = self._prepared(sample_pictures.photo(), question)
            answer = self._model(image_embeddings=features, multimask_output=False, **prompt)
            stability = float(decoder._get_stability_scores(answer.pred_masks))
        return abs(stability - decoder.dynamic_multimask_stability_thresh) < _DOUBT


def config(entry: Entry, side: int = SIDE) -> Sam2Config:
    """The configuration of one id."""
    from tritonvision.exporters.libraries import torch_env

    torch_env.import_torchvision()
    from transformers import Sam2Config

    return Sam2Config(**configs.parts(entry, side))


def export_graph(graph: torch.nn.Module, examples: list[torch.Tensor], path: Path, net: Net) -> None:
    """Write ``graph`` with the inputs and outputs of ``net``, whose axes of any length stay so."""
    inputs, outputs = (tuple(tensor.name for tensor in tensors) for tensors in (net.inputs, net.outputs))
    dynamic = {
        tensor.name: {1 + axis: f"{tensor.name}_{axis}" for axis, length in enumerate(tensor.dims) if length == -1}
        for tensor in (*net.inputs, *net.outputs)
    }
    export_onnx(graph, examples, path, inputs, outputs, dynamic)


def prompts_of_every_kind(side: int) -> dict[str, Tensors]:
    """Inputs of the decoder: points, a box, a box with points and an earlier mask."""
    several, boxed, both = (
        configs.prompts(batch, count, points, side) for batch, count, points in ((2, 2, 3), (1, 1, 3), (1, 1, 5))
    )
    boxed["point_labels"][:] = 2, 3, -1
    both["point_labels"][:] = 1, 0, 2, 3, -1
    both["has_mask"][:] = 1
    return {"two prompts about two pictures": several, "a box": boxed, "a box, points and a mask": both}


def decoded(model: Sam2Model, inputs: Mapping[str, np.ndarray], double: bool) -> Tensors:
    """The four masks of each prompt: those of the model's decoder, without its choice of one."""
    import torch

    dtype = torch.float64 if double else torch.float32
    given = {name: torch.from_numpy(value).to(dtype) for name, value in inputs.items()}
    pictures = []
    for row in range(len(given["has_mask"])):
        features = [given[name][row : row + 1] for name in ("high_res_s0", "high_res_s1", "embeddings")]
        prompts = []
        for index in range(given["has_mask"].shape[1]):
            prompt = {name: given[name][row : row + 1, index : index + 1] for name in ("point_coords", "point_labels")}
            mask = given["mask_input"][row, index][None] if given["has_mask"][row, index] > 0.5 else None
            found = four_masks(model, features, prompt["point_coords"], prompt["point_labels"], mask)
            prompts.append(dict(zip(("low_res_masks", "iou_scores"), (part.numpy() for part in found), strict=False)))
        pictures.append({name: np.concatenate([found[name] for found in prompts], 1) for name in prompts[0]})
    return {name: np.concatenate([found[name] for found in pictures]) for name in pictures[0]}


def four_masks(
    model: Sam2Model, features: list[torch.Tensor], coords: torch.Tensor, labels: torch.Tensor,
    mask: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    """One prompt: masks ``[1,1,4,h,w]``, their scores, their tokens ``[1,1,4,C]``, the logit of being seen. The
    model adds the padding point itself.
    """
    import torch

    if labels[0, 0, -1] != -1:
        raise ValueError("A prompt ends with a point that is none.")
    sparse, dense = model.prompt_encoder(coords[:, :, :-1], labels[:, :, :-1].long(), None, mask)
    decoder = model.mask_decoder
    with choosing(decoder, False):
        answers = [
            decoder(
                image_embeddings=features[-1], image_positional_embeddings=model.get_image_wide_positional_embeddings(),
                sparse_prompt_embeddings=sparse, dense_prompt_embeddings=dense, multimask_output=many,
                high_resolution_features=features[:-1],
            )
            for many in (False, True)
        ]  # fmt: skip
    masks, scores, tokens = (torch.cat([answer[part] for answer in answers], 2) for part in range(3))
    return masks, scores, tokens, answers[0][3]


@contextmanager
def choosing(decoder: torch.nn.Module, whether: bool) -> Iterator[None]:
    """Whether the decoder answers by a proposal where its first mask is not stable."""
    before = decoder.dynamic_multimask_via_stability
    decoder.dynamic_multimask_via_stability = whether
    try:
        yield
    finally:
        decoder.dynamic_multimask_via_stability = before


FAMILY = SAM2()
