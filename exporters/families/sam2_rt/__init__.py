"""SAM2 on streams: objects are prompted on a frame and followed through the next ones; weights are those of 2.1.

The reference is transformers' ``Sam2VideoModel`` in a session that gets its frames one by one.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tritonvision import streams
from tritonvision.catalog import Entry
from tritonvision.ensembles.entry_points import Composition, Net, SequenceBatching
from tritonvision.ensembles.tensors import IMAGE_SIZE, Tensor
from tritonvision.errors import ExportFailed
from tritonvision.exporters.contract import Network, ReferencePipeline, Tensors, Tolerance, Weights
from tritonvision.exporters.families import sam2
from tritonvision.exporters.families.sam2 import configs
from tritonvision.exporters.families.sam2 import graphs as picture_graphs
from tritonvision.exporters.families.sam2_rt import graphs
from tritonvision.exporters.libraries import torch_env
from tritonvision.exporters.modules import coco_masks
from tritonvision.python_backend.compositions import tracked_masks

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, Sam2VideoConfig, Sam2VideoModel, Sam2VideoProcessor

SIDE = configs.SIDE
_MEMORY, _POINTER = 64, 256  # channels
_MOST_MEMORIES = 6 + tracked_masks.PROMPTED  # of tracking, and of prompts
_MOST_POINTERS = 15 + tracked_masks.PROMPTED


def point(side: int = SIDE, **facts: Any) -> Composition:
    """The entry point over an encoder of ``side`` pixels: 1024 in every released model, fewer in tests.

    Args:
        facts: of the configuration, see :func:`_facts`; those of the released models by default.
    """
    facts = _RELEASED | facts
    grid, small = side // 16, side // 4
    coarse = sam2.features(side)[0]
    memory = Tensor("memory", "FP32", (_MEMORY, grid, grid))
    remembered, pointed = ((1, 7, _MOST_MEMORIES),), ((1, 16, _MOST_POINTERS),)
    prompts = ((1, 1, 8),)
    nets = (
        sam2.encoder(side),
        Net(
            "attention",
            (
                coarse, Tensor("memories", "FP32", (-1, *memory.dims), bounds=remembered),
                Tensor("memory_ages", "INT64", (-1,), bounds=remembered),
                Tensor("pointers", "FP32", (-1, _POINTER), bounds=pointed),
                Tensor("pointer_ages", "FP32", (-1,), bounds=pointed),
            ),
            (Tensor("conditioned", "FP32", coarse.dims),), instances=1,
        ),
        Net(
            "decoder", sam2.decoder_inputs(side),
            (
                *sam2.masks(side), Tensor("object_scores", "FP32", (-1, 1), bounds=prompts),
                Tensor("pointers", "FP32", (-1, 4, _POINTER), bounds=prompts),
            ),
        ),
        Net(
            "memory",
            (
                coarse, Tensor("mask", "FP32", (1, small, small)), Tensor("object_score", "FP32", (1,)),
                Tensor("prompted", "FP32", (1,)),
            ),
            (memory,),
        ),
    )  # fmt: skip
    filled = {"levels": list(picture_graphs.LEVELS), "offset": facts["offset"], "stable": facts["stable"]}
    return Composition(
        name="tracked-masks",
        version=1,
        task=tracked_masks.TASK,
        nets=nets,
        outputs=(
            Tensor("masks", "STRING", (-1,)), Tensor("object_ids", "INT64", (-1,)), Tensor("scores", "FP32", (-1,)),
            Tensor("frame", "INT64", (1,)), Tensor("state_bytes", "INT64", (1,)), IMAGE_SIZE,
        ),
        options=(
            ("few", facts["few"]), ("filled", filled), ("memories", facts["memories"]), ("pointers", facts["pointers"]),
            ("side", side),
        ),
        size=(side, side),
        image_optional=True,
        instances=streams.PROCESSES,
        sequence=SequenceBatching(most=streams.PLACES, idle_seconds=streams.IDLE_SECONDS),
    )  # fmt: skip


_RELEASED: dict[str, Any] = {"offset": 0.05, "stable": 0.98, "memories": 7, "pointers": 16, "few": 1}


def _facts(config: Sam2VideoConfig) -> dict[str, Any]:
    """What the composition has to know of a configuration. Raises ExportFailed where it is none that it follows."""
    decoding = config.mask_decoder_config
    if not (
        decoding.dynamic_multimask_via_stability and config.multimask_output_in_sam
        and config.multimask_output_for_tracking and config.multimask_min_pt_num == 0
        and config.max_cond_frame_num == -1
    ):  # fmt: skip
        raise ExportFailed("These are weights of another SAM2: it chooses among proposals otherwise.")
    return {
        "offset": decoding.dynamic_multimask_stability_delta, "stable": decoding.dynamic_multimask_stability_thresh,
        "memories": config.num_maskmem, "pointers": config.max_object_pointers_in_encoder,
        "few": config.multimask_max_pt_num,
    }  # fmt: skip


class SAM2RT(sam2.SAM2):
    """SAM2 with the networks of memories."""

    name = "SAM2 RT"
    class_name = "Sam2VideoModel"
    random_note = "Random weights, calibrated only to carry signal: what it follows means nothing."
    tolerance = Tolerance(
        {
            **sam2.SAM2.tolerance.tensors, "conditioned": 1.6e-5, "memory": 1.5e-5, "object_scores": 6e-6,
            "pointers": 2.5e-5,
        },
        answers={"scores": 5e-4, "masks": 0.02},
        relative=sam2.SAM2.tolerance.relative | {"conditioned", "memory", "object_scores", "pointers"},
        causes={
            "masks": "what is remembered is rounded to 16 bits, by the reference to bfloat16",
            "scores": "what is remembered is rounded to 16 bits, by the reference to bfloat16",
        },
    )  # fmt: skip
    reference_pipeline = ReferencePipeline(
        "transformers", "5.23.0", "Sam2VideoModel(session, frame=frame) with a Sam2VideoProcessor, frame by frame"
    )

    def entry_points(self, entry: Entry) -> tuple[Composition]:
        """One Python model over four graphs, with a state for each stream."""
        return (point(),)

    def config_of(self, entry: Entry, tensors: Mapping[str, torch.Tensor]) -> Sam2VideoConfig:
        """See :meth:`TransformersFamily.config_of`."""
        return config(entry)

    def random_network(self, entry: Entry, weights: Weights) -> Network:
        """See :meth:`Family.random_network`."""
        return self.built(random(config(entry), weights.seed))

    def built(self, model: PreTrainedModel, source: str = "", **facts: Any) -> SAM2RTNetwork:
        """See :meth:`sam2.SAM2.built`."""
        return SAM2RTNetwork(model, source, **facts)


class SAM2RTNetwork(sam2.SAM2Network):
    """One model: transformers' is the reference; the reference pipeline adds its session and processor."""

    def __init__(self, model: Sam2VideoModel, source: str = "", **facts: Any):
        """``facts`` are further attributes of :class:`Network`."""
        super().__init__(model, source, **facts)
        self.entry_points = (point(self._side, **_facts(model.config)),)

    def export(self, path: Path, role: str = "") -> None:
        """See :meth:`Network.export`: ``encoder``, ``attention``, ``decoder`` or ``memory``."""
        if role in ("encoder", "decoder"):
            super().export(path, role)
            return
        import torch

        net = next(net for net in self.entry_points[0].nets if net.role == role)
        examples = [torch.from_numpy(value) for value in self._remembered(role, 2, 2, 3).values()]
        graph = graphs.attention(self._model) if role == "attention" else graphs.memory(self._model)
        sam2.export_graph(graph, examples, path, net)

    def tensors(self, inputs: Mapping[str, np.ndarray], double: bool = False, role: str = "") -> Tensors:
        """See :meth:`Network.tensors`."""
        if role == "encoder":
            return super().tensors(inputs, double, role)
        import torch

        dtype, model = torch.float64 if double else torch.float32, self.reference(double)
        ask = {"decoder": _decoded, "attention": _attended, "memory": _memory}[role]
        with torch.inference_mode():
            rows = []
            for row in range(len(next(iter(inputs.values())))):
                given = {name: torch.from_numpy(value[row : row + 1]) for name, value in inputs.items()}
                rows.append(ask(model, {n: v.to(dtype) if v.is_floating_point() else v for n, v in given.items()}))
        return {name: np.concatenate([found[name].numpy() for found in rows]) for name in rows[0]}

    def predict(self, sample: Any, parameters: Mapping[str, Any], role: str = "") -> Tensors:
        """See :meth:`Network.predict`: frames one after another, with prompts on the first.

        Args:
            sample: frames, RGB uint8 ``[h,w,3]``.
            parameters: boxes of objects, and points of others.
        """
        session = Session(self)
        boxes, points = parameters["boxes"] or [], parameters["points"] or []
        first: dict[int, dict[str, Any]] = {
            i: {"box": box} for i, box in zip(parameters["box_objects"] or range(len(boxes)), boxes, strict=True)
        }
        for i, place in zip(parameters["point_objects"] or [0] * len(points), points, strict=True):
            one = first.setdefault(i, {"points": [], "labels": []})
            one["points"].append(place)
            one["labels"].append(1)
        ids = list(first)
        steps = [session.step(frame, first if not number else {}) for number, frame in enumerate(sample)]
        return {
            "masks": np.array([coco_masks.counts(mask) for step in steps for mask in step[0]], dtype=object),
            "scores": np.concatenate([step[1] for step in steps]),
            "object_ids": np.tile(np.array(ids, np.int64), len(steps)),
            "image_size": np.array(sample[0].shape[:2], dtype=np.int32),
        }

    @cached_property
    def processor(self) -> Sam2VideoProcessor:
        """The library's processor, with the settings of the released weights."""
        from transformers import Sam2ImageProcessor, Sam2VideoProcessor, Sam2VideoVideoProcessor

        size = {"height": self._side, "width": self._side}
        return Sam2VideoProcessor(
            Sam2ImageProcessor(size=size), Sam2VideoVideoProcessor(size=size), target_size=self._side
        )

    def examples(self, role: str) -> dict[str, Tensors]:
        """See :meth:`Network.examples`: prompts of every kind, few memories and many, objects seen and not."""
        if role == "attention":
            return {
                "one memory": self._remembered(role, 1, 1, 1), "two objects": self._remembered(role, 2, 3, 5),
            }  # fmt: skip
        if role == "memory":
            return {"one mask": self._remembered(role, 1), "two masks": self._remembered(role, 2)}
        return super().examples(role)

    def questions(self) -> list[dict[str, Any]]:
        """See :meth:`Network.questions`: boxes, or a point, on the first frame."""
        return [
            {"boxes": [[100, 60, 330.5, 420], [20, 30, 200, 190]], "box_objects": [3, 1]},
            {"points": [[230, 120]], "point_objects": [5]},
        ]

    def _remembered(self, role: str, batch: int, memories: int = 1, pointers: int = 1) -> Tensors:
        """Inputs of the graphs of memories; of two objects the second is not seen and was not prompted."""
        grid, rng = self._side // 16, np.random.default_rng(memories)
        embeddings = rng.normal(size=(batch, 256, grid, grid)).astype(np.float32)
        if role == "memory":
            sign = np.array([1, -1], np.float32)[:batch, None]
            mask = 5 * rng.normal(size=(batch, 1, 4 * grid, 4 * grid)).astype(np.float32)
            return {"embeddings": embeddings, "mask": mask, "object_score": sign, "prompted": np.maximum(sign, 0)}
        ages = np.tile(np.arange(memories)[::-1], (batch, 1)).astype(np.int64)
        ages[:, 0] = 6  # of a prompt
        return {
            "embeddings": embeddings,
            "memories": rng.normal(size=(batch, memories, _MEMORY, grid, grid)).astype(np.float32),
            "memory_ages": ages, "pointers": rng.normal(size=(batch, pointers, _POINTER)).astype(np.float32),
            "pointer_ages": np.tile(np.arange(1, pointers + 1), (batch, 1)).astype(np.float32),
        }  # fmt: skip


class Session:
    """transformers' session about one stream, fed as our composition is."""

    def __init__(self, network: SAM2RTNetwork):
        self._model, self._processor = network.reference(), network.processor
        self._session = self._processor.init_video_session()
        self._count = 0

    def step(
        self, frame: np.ndarray | None, prompts: Mapping[int, Mapping[str, Any]], number: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Masks bool ``[n,h,w]`` and scores ``[n]`` of all objects on the next frame, or on the frame ``number``.

        Args:
            prompts: by object ``box``, or ``points`` and ``labels``.
        """
        import torch

        at = self._count if frame is not None else number
        pixels = None
        if frame is not None:
            processed = self._processor.image_processor(frame, return_tensors="pt")
            pixels, self._size = processed["pixel_values"][0], frame.shape[:2]
            self._count += 1
        for i, prompt in prompts.items():
            given = {"input_boxes": [[prompt["box"]]]} if "box" in prompt else {
                "input_points": [[prompt["points"]]], "input_labels": [[prompt["labels"]]],
            }  # fmt: skip
            self._processor.add_inputs_to_inference_session(
                self._session, frame_idx=at, obj_ids=i, original_size=self._size, **given
            )
        self._session.obj_with_new_inputs = list(prompts)
        found = self._model(self._session, frame=pixels, frame_idx=at)
        (masks,) = self._processor.post_process_masks([found.pred_masks], [list(self._size)], binarize=True)
        return masks[:, 0].numpy(), torch.sigmoid(found.object_score_logits).reshape(-1).float().numpy()


def _decoded(model: Sam2VideoModel, given: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """All four masks of each prompt about one picture, and what the model makes of them."""
    import torch

    features = [given[name] for name in ("high_res_s0", "high_res_s1", "embeddings")]
    found = []
    for index in range(given["has_mask"].shape[1]):
        coords, labels = (given[name][:, index : index + 1] for name in ("point_coords", "point_labels"))
        mask = given["mask_input"][0, index][None] if given["has_mask"][0, index] > 0.5 else None
        masks, scores, tokens, seen = sam2.four_masks(model, features, coords, labels, mask)
        pointers = torch.where(seen[..., None] > 0, model.object_pointer_proj(tokens), model.no_object_pointer)
        found.append({"low_res_masks": masks, "iou_scores": scores, "object_scores": seen, "pointers": pointers})
    return {name: torch.cat([one[name] for one in found], 1) for name in found[0]}


def _attended(model: Sam2VideoModel, given: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """One object's memories, joined as the model's session joins them."""
    import torch

    size = given["embeddings"].shape[-1]
    now = (given["embeddings"] - model.no_memory_embedding.reshape(1, -1, 1, 1)).flatten(2).permute(2, 0, 1)
    dtype = now.dtype
    shape, place = given["embeddings"].shape, model.vision_encoder.neck.position_encoding
    places = place(shape, now.device, dtype).flatten(2).permute(2, 0, 1)
    memories = [memory.flatten(2).permute(2, 0, 1) for memory in given["memories"].unbind(1)]
    encoding = model.memory_encoder.position_encoding((1, model.mem_dim, size, size), now.device, dtype)
    encoding = encoding.flatten(2).permute(2, 0, 1)
    encodings = [encoding + model.memory_temporal_positional_encoding[age] for age in given["memory_ages"][0].tolist()]
    tokens, aged = model._process_object_pointers(
        given["pointer_ages"][0].tolist(), list(given["pointers"].unbind(1)),
        model.config.max_object_pointers_in_encoder, 1, model.hidden_dim, now.device,
    )  # fmt: skip
    found = model.memory_attention(
        current_vision_features=now, current_vision_position_embeddings=places,
        memory=torch.cat([*memories, tokens]), memory_posision_embeddings=torch.cat([*encodings, aged]),
        num_object_pointer_tokens=len(tokens),
    )  # fmt: skip
    return {"conditioned": found.squeeze(1).transpose(1, 2).reshape(shape)}


def _memory(model: Sam2VideoModel, given: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What the model's encoder remembers, before it is rounded."""
    import torch

    config, mask = model.config, given["mask"]
    large = torch.nn.functional.interpolate(mask, size=(4 * mask.shape[-1],) * 2, mode="bilinear", align_corners=False)
    shown = (large > 0).to(large.dtype) if given["prompted"] > 0.5 else torch.sigmoid(large)
    shown = shown * config.sigmoid_scale_for_mem_enc + config.sigmoid_bias_for_mem_enc
    features = given["embeddings"] - model.no_memory_embedding.reshape(1, -1, 1, 1)
    found, _ = model.memory_encoder(features, shown)
    if model.occlusion_spatial_embedding_parameter is not None and given["object_score"] <= 0:
        found = found + model.occlusion_spatial_embedding_parameter[..., None, None]
    return {"memory": found}


def config(entry: Entry, side: int = SIDE) -> Sam2VideoConfig:
    """The configuration of one id."""
    torch_env.import_torchvision()
    from transformers import Sam2VideoConfig

    return Sam2VideoConfig(
        **configs.parts(entry, side), image_size=side, memory_attention_rope_feat_sizes=[side // 16] * 2
    )


def random(config: Sam2VideoConfig, seed: int) -> Sam2VideoModel:
    """The true architecture with random weights that carry signal; objects are seen."""
    import torch
    from transformers import Sam2VideoModel

    model = configs.random(Sam2VideoModel, config, seed)
    with torch.no_grad():
        model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(3)
    return model


FAMILY = SAM2RT()
