"""SAM2: the graphs compute the outputs of transformers' Sam2Model, the composition gives the masks of its processor."""

import torch  # isort: skip

import asyncio
import dataclasses
import re

import numpy as np
import pytest
from attention import check_attention, examples_of
from prompted_masks import AUTHORS_NAMES, RELATIVE, check_against_pipeline, check_random_masks, relative

from tritonvision import catalog
from tritonvision.engine import codec, mask_grid
from tritonvision.ensembles.in_process import LocalComposition
from tritonvision.errors import ExportFailed
from tritonvision.exporters import pipeline
from tritonvision.exporters.contract import Weights
from tritonvision.exporters.families import sam2
from tritonvision.exporters.families.sam2 import authors, configs
from tritonvision.exporters.modules import point_prompts
from tritonvision.exporters.parity import compare, sample_pictures
from tritonvision.python_backend.images import resize
from tritonvision.tasks import resolve

ENTRY = catalog.find("sam2-tiny")
# Pixels a side, and layers of every kind: in windows with padding, seeing everything in parts, where a stage begins.
SMALL = 256
LAYERS = {"blocks_per_stage": [1, 1, 2, 1], "global_attention_blocks": [3]}

pytestmark = pytest.mark.usefixtures("few_threads")


@pytest.fixture(scope="module")
def network():
    """Random weights of the smallest id with fewer layers, over a frame of 256 pixels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(configs._BACKBONES, "tiny", LAYERS)
        config = sam2.config(ENTRY, SMALL)
    return sam2.SAM2Network(configs.random(sam2.FAMILY.model_class(), config, seed=3), "seed 3")


@pytest.fixture(scope="module")
def model(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("graphs")
    graphs = {role: folder / f"{role}.onnx" for role in ("encoder", "decoder")}
    for role, path in graphs.items():
        network.export(path, role)
    return network, LocalComposition(graphs, network.entry_points[0])


@pytest.mark.parametrize("role", ["encoder", "decoder"])
def test_the_graphs_compute_what_the_model_does(model, role):
    network, local = model
    for what, inputs in network.examples(role).items():
        got, want = local.nets[role].tensors(inputs), network.tensors(inputs, role=role)
        assert got.keys() == want.keys()
        for name, value in want.items():
            assert got[name].shape == value.shape, (what, name)
            assert relative(got[name], value) <= RELATIVE, (what, name)
    assert network.tensors(inputs, double=True, role=role)[name].dtype == np.float64


def test_queries_and_keys_of_random_weights_have_an_effect(network):
    check_attention(network, sam2.FAMILY.tolerance, examples_of(network, "decoder", "encoder"))


@pytest.mark.parametrize("size", ["tiny", "small", "base", "large"])
def test_every_size_has_the_parameters_of_its_release(size):
    entry = catalog.find(f"sam2-{size}")
    with torch.device("meta"):
        built = sam2.FAMILY.model_class()(sam2.config(entry))
    millions = sum(parameter.numel() for parameter in built.parameters()) / 1e6
    memories = 7.5  # millions, of networks that a model for pictures leaves out
    assert millions + memories == pytest.approx(entry.params_m, abs=0.2)


def test_the_models_own_processor_prepares_the_same_pixels(network):
    for name, picture in sample_pictures.views().items():
        pixels, _ = resize.squash(picture, SMALL, SMALL)
        theirs = network.processor(picture, return_tensors="pt")["pixel_values"].numpy()
        ours = (pixels.transpose(2, 0, 1) / 255 - np.array([[[0.485]], [[0.456]], [[0.406]]])) / np.array(
            [[[0.229]], [[0.224]], [[0.225]]]
        )
        assert np.abs(ours - theirs[0]).max() * 0.226 * 255 <= 1.1, name  # one grey level


QUESTIONS = (
    {"points": [[60, 40]]},
    {"points": [[60, 40], [10.5, 70]], "point_labels": [1, 0]},
    {"points": [[60, 40], [10.5, 70], [0, 0]], "point_labels": [0, 1, -1]},
    {"box": [5, 6.5, 80, 70]},
    {"box": [5, 6.5, 80, 70], "points": [[40, 30]], "point_labels": [0]},
    {},
)


@pytest.mark.parametrize("view", ["odd-220x316", "wide-512x260"])
def test_the_composition_selects_what_the_processor_and_the_model_select(model, view):
    network, local = model
    picture = sample_pictures.views()[view]
    for given in QUESTIONS:
        got = local(picture, given)
        want = network.predict(picture, resolve(local.point.task.parameters, given))
        assert got["image_size"].tolist() == list(picture.shape[:2])
        assert len(got["masks"]) == len(want["masks"]) == 3
        # logits carry the grey levels by which Pillow and torchvision differ
        assert np.abs(got["scores"] - want["scores"]).max() <= 5e-3, given
        for mask, other in zip(got["masks"], want["masks"], strict=True):
            assert compare.mask_difference(mask, other, np.array(picture.shape[:2])) <= 0.01, given


@pytest.mark.parametrize("stable", [0.0, 0.98, 1.1])
def test_a_single_answer_is_the_first_mask_where_it_is_stable_and_else_the_best_proposal(model, monkeypatch, stable):
    network, local = model
    picture, decoder = sample_pictures.views()["odd-220x316"], network._model.mask_decoder
    encoding = local(picture)  # else grey levels might decide
    ours = [torch.from_numpy(encoding[name])[None] for name in ("high_res_s0", "high_res_s1", "embeddings")]
    monkeypatch.setattr(network, "_features", lambda pixels: ours)
    monkeypatch.setattr(decoder, "dynamic_multimask_stability_thresh", stable)
    monkeypatch.setattr(local._composition, "_filled", dataclasses.replace(local._composition._filled, stable=stable))
    for given in QUESTIONS:
        given = given | {"multimask": False}
        got, want = local(picture, given), network.predict(picture, resolve(local.point.task.parameters, given))
        assert relative(got["low_res_masks"], want["low_res_masks"]) <= RELATIVE
        assert np.abs(got["scores"] - want["scores"]).max() <= 1e-5


def test_questions_ask_for_no_single_answer_that_grey_levels_decide(network, monkeypatch):
    photo, single = sample_pictures.photo(), point_prompts.QUESTIONS[1]
    with torch.inference_mode(), sam2.choosing(network._model.mask_decoder, False):
        features, prompt, _ = network._prepared(photo, single)
        first = network._model(image_embeddings=features, multimask_output=False, **prompt).pred_masks
        share = float(network._model.mask_decoder._get_stability_scores(first))
    for apart, many in ((0.0, True), (0.1, False)):
        monkeypatch.setattr(network._model.mask_decoder, "dynamic_multimask_stability_thresh", share - apart)
        assert network.questions()[1]["multimask"] is many


def test_random_masks_cover_a_part_and_differ_between_prompts_and_pictures(model):
    check_random_masks(model[1], QUESTIONS)


def test_an_earlier_mask_as_a_prompt_gives_the_models_answer(model):
    network, local = model
    first = local(sample_pictures.photo(), {"points": [[200, 100]]})
    features = {name: first[name] for name in ("embeddings", "high_res_s0", "high_res_s1")}
    sample = features | {"mask_input": first["low_res_masks"][1]}
    got = local(sample, {"points": [[200, 100]], "image_size": [512, 512]})
    prompt = {name: value[None] for name, value in features.items()} | {
        "mask_input": first["low_res_masks"][None, None, 1:2], "has_mask": np.ones((1, 1, 1), np.float32),
        "point_coords": np.float32([[[[100, 50], [0, 0]]]]), "point_labels": np.float32([[[1, -1]]]),
    }  # fmt: skip
    want = network.tensors(prompt, role="decoder")
    assert relative(got["low_res_masks"], want["low_res_masks"][0, 0, 1:]) <= RELATIVE
    assert relative(got["low_res_masks"], first["low_res_masks"]) > 0.05


def test_a_reduced_one_goes_through_the_gate_as_weights_of_ones_own(network, tmp_path):
    network._model.save_pretrained(tmp_path / "weights")
    weights = Weights("user", path=tmp_path / "weights")
    manifest = pipeline.export(ENTRY.id, weights, tmp_path / "repository", as_id="s/1")
    assert manifest.head == "promptable-masks" and manifest.input_size == (SMALL, SMALL)
    assert {"tensor_high_res_s1", "tensor_low_res_masks", "pipeline_masks"} <= manifest.parity.keys()


# ---- weights ---------------------------------------------------------------------------------------------------------


def authors_names(state):
    """The state dict of a ``Sam2Model`` or a ``Sam2VideoModel`` under the names of the authors."""
    simple = [
        ("vision_encoder.backbone.", "image_encoder.trunk."), ("object_pointer_proj.", "obj_ptr_proj."),
        ("temporal_positional_encoding_projection_layer.", "obj_ptr_tpos_proj."), ("no_object_pointer", "no_obj_ptr"),
        ("occlusion_spatial_embedding_parameter", "no_obj_embed_spatial"), ("no_memory_embedding", "no_mem_embed"),
        ("no_memory_positional_encoding", "no_mem_pos_enc"),
        ("memory_temporal_positional_encoding", "maskmem_tpos_enc"),
        ("memory_encoder.projection", "memory_encoder.out_proj"),
        ("feature_projection", "pix_feat_proj"), ("memory_fuser", "fuser"), ("depthwise_conv", "dwconv"),
        ("pointwise_conv", "pwconv"), ("mask_downsampler.final_conv", "mask_downsampler.encoder.12"),
        (".o_proj.", ".out_proj."), *AUTHORS_NAMES,
    ]  # fmt: skip
    renamed = {}
    for name, value in state.items():
        if name == "shared_image_embedding.positional_embedding":
            continue
        if name == "prompt_encoder.point_embed.weight":
            renamed |= {f"sam_prompt_encoder.point_embeddings.{i}.weight": value[i : i + 1] for i in range(4)}
            continue
        name = re.sub(r"^vision_encoder\.neck\.convs\.(\d)\.", r"image_encoder.neck.convs.\1.conv.", name)
        name = re.sub(r"mask_downsampler\.layers\.(\d)\.(conv|layer_norm)", lambda m: (
            f"mask_downsampler.encoder.{3 * int(m[1]) + (m[2] == 'layer_norm')}"), name)  # fmt: skip
        if name.endswith(".scale"):
            name = name.removesuffix("scale") + "gamma"
        if ".mlp." in name:
            name = name.replace("proj_in.", "layers.0.").replace("proj_out.", "layers.1.")
        elif re.search(r"_mlps\.|_head\.|pointer_proj\.", name):
            name = name.replace(".layers.0.", ".layers.1.").replace("proj_in.", "layers.0.")
            name = name.replace("proj_out.", "layers.2.")
        for ours, theirs in simple:
            name = name.replace(ours, theirs)
        renamed[re.sub(r"^(mask_decoder|prompt_encoder)\.", r"sam_\1.", name)] = value
    return renamed


def test_weights_under_the_authors_names_are_read_and_those_of_memories_left_out(network, tmp_path, monkeypatch):
    monkeypatch.setitem(configs._BACKBONES, "tiny", LAYERS)
    monkeypatch.setattr(sam2, "config", lambda entry, side=SMALL, own=sam2.config: own(entry, side))
    state = authors_names(network._model.state_dict())
    assert {"image_encoder.trunk.blocks.0.mlp.layers.0.weight", "sam_mask_decoder.transformer.norm_final_attn.weight",
            "sam_mask_decoder.pred_obj_score_head.layers.2.bias"} <= set(state)  # fmt: skip
    memories = {"maskmem_tpos_enc": torch.zeros(7, 1, 1, 64), "obj_ptr_proj.layers.0.bias": torch.zeros(256)}
    path = tmp_path / "sam2.1_hiera_tiny.pt"
    torch.save({"model": state | memories}, path)
    read = sam2.FAMILY.build(ENTRY, Weights("user", path=path))
    for (name, ours), theirs in zip(
        network._model.state_dict().items(), read._model.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), name
    assert read.source == path.name and len(read.sha256) == 64
    with pytest.raises(ExportFailed, match="not those of sam2-large"):
        sam2.FAMILY.build(catalog.find("sam2-large"), Weights("user", path=path))


def test_names_of_memories_are_those_of_the_released_file():
    encoder, attention = "memory_encoder.mask_downsampler", "memory_attention.layers.0.cross_attn_image"
    given = {
        f"{encoder}.encoder.10.weight": f"{encoder}.layers.3.layer_norm.weight",
        "memory_encoder.fuser.layers.0.gamma": "memory_encoder.memory_fuser.layers.0.scale",
        "memory_encoder.out_proj.weight": "memory_encoder.projection.weight",
        "memory_attention.norm.weight": "memory_attention.layer_norm.weight",
        f"{attention}.out_proj.bias": f"{attention}.o_proj.bias",
        "obj_ptr_proj.layers.1.weight": "object_pointer_proj.layers.0.weight",
        "obj_ptr_tpos_proj.bias": "temporal_positional_encoding_projection_layer.bias",
        "no_obj_embed_spatial": "occlusion_spatial_embedding_parameter",
    }
    named = authors.renamed(dict.fromkeys(given, torch.zeros(1)))
    assert list(named) == list(given.values())


def test_weights_of_another_sam2_are_refused(network, monkeypatch):
    monkeypatch.setattr(network._model.vision_encoder.neck, "fpn_top_down_levels", [3])
    with pytest.raises(ExportFailed, match="another SAM2"):
        sam2.graphs.encoder(network._model)
    monkeypatch.setattr(network._model.config.mask_decoder_config, "dynamic_multimask_via_stability", False)
    with pytest.raises(ExportFailed, match="another SAM2"):
        sam2.SAM2Network(network._model)


def test_class_names_are_refused():
    with pytest.raises(ExportFailed, match="no classes"):
        sam2.FAMILY.build(ENTRY, Weights("random", labels=("cat",)))


# ---- every object of a picture ---------------------------------------------------------------------------------------


def test_the_grid_finds_the_masks_of_transformers_pipeline(model, monkeypatch):
    network, local = model
    # A square one: of others the pipeline places the points as if their aspect were kept, which SAM2 does not do.
    picture = np.ascontiguousarray(sample_pictures.photo()[40:300, 100:360])
    encoding = local(picture)
    # grey levels by which Pillow and torchvision differ would decide what is left out
    ours = [torch.from_numpy(encoding[name])[None] for name in ("high_res_s0", "high_res_s1", "embeddings")]
    monkeypatch.setattr(network._model, "get_image_embeddings", lambda pixels: ours)
    given = {"points_per_side": 4, "points_per_batch": 6, "stability_score_thresh": 0.0, "mask_threshold": 8.0,
             "crops_nms_thresh": 1.0}  # fmt: skip
    asked = mask_grid.questions(resolve(mask_grid.PARAMETERS, {**given, "pred_iou_thresh": 0}), *picture.shape[:2])
    scores = np.sort(np.concatenate([local(picture, question)["scores"] for question in asked]))
    middle = np.arange(16, 32)
    widest = middle[np.argmax(np.diff(scores)[middle])]
    given["pred_iou_thresh"] = float(scores[widest : widest + 2].mean())

    async def ask(sample, parameters, outputs):
        assert "image" in sample
        found = local(picture, parameters)
        return codec.to_result({name: found[name] for name in outputs}, parameters)

    async def walked():
        return [step async for step in mask_grid.walk(ask, b"", given)]

    got = asyncio.run(walked())[-1]
    assert len(got.scores) < 48
    check_against_pipeline(network, picture, given, got, 1e-3)
