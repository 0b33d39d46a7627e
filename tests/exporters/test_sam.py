"""SAM: the graphs compute the outputs of transformers' SamModel, the composition gives the masks of its processor."""

import torch  # isort: skip

import asyncio
import re

import numpy as np
import pytest
from attention import check_attention, examples_of
from prompted_masks import AUTHORS_NAMES, RELATIVE, check_against_pipeline, check_random_masks, relative

from tritonvision import catalog, graph_files
from tritonvision.engine import codec, mask_grid
from tritonvision.ensembles.in_process import LocalComposition, LocalNet
from tritonvision.errors import ExportFailed
from tritonvision.exporters.contract import Weights
from tritonvision.exporters.families import sam
from tritonvision.exporters.graphs import check, storage
from tritonvision.exporters.modules import normalise
from tritonvision.exporters.parity import compare, sample_pictures
from tritonvision.python_backend.images import resize
from tritonvision.tasks import resolve

ENTRY = catalog.find("sam-vit_b")
# Pixels a side: windows have padding, and attention to everything comes in two parts. Four layers, two of each kind.
SMALL = 256
LAYERS = {"num_hidden_layers": 4, "global_attn_indexes": [1, 3]}


pytestmark = pytest.mark.usefixtures("few_threads")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The networks of vit_b over a frame of 256 pixels, exported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sam._VISION, "vit_b", LAYERS)
        network = sam.SAMNetwork(sam.random(sam.config(ENTRY, SMALL), seed=3), "seed 3")
    folder = tmp_path_factory.mktemp("graphs")
    graphs = {role: folder / f"{role}.onnx" for role in ("encoder", "decoder")}
    for role, path in graphs.items():
        network.export(path, role)
    return network, LocalComposition(graphs, sam.point(SMALL))


@pytest.mark.parametrize("role", ["encoder", "decoder"])
def test_weights_beside_the_graph_change_no_bit_of_the_answer(model, tmp_path, monkeypatch, role):
    """As those of the largest encoder, which one file cannot hold."""
    network, local = model
    monkeypatch.setattr(storage, "INSIDE", 1)
    path = tmp_path / "model.onnx"
    network.export(path, role)
    net = local.nets[role].net
    check.check(path, net)
    assert path.stat().st_size < 1e6 < 15e6 < graph_files.data_file(path).stat().st_size
    inputs = list(network.examples(role).values())[-1]
    got, want = LocalNet(path, net).tensors(inputs), local.nets[role].tensors(inputs)
    for name in want:
        np.testing.assert_array_equal(got[name], want[name])


@pytest.mark.parametrize("batch", [1, 2])
def test_the_encoder_graph_computes_the_models_embeddings(model, batch):
    network, local = model
    photo, _ = resize.longest(sample_pictures.photo(), SMALL, SMALL)
    pixels = np.stack([sample_pictures.noise(SMALL, SMALL), photo])[:batch]
    inputs = {"pixels": pixels, "valid_size": np.array([[200, 256], [256, 131]], np.int32)[:batch]}
    got, want = local.nets["encoder"].tensors(inputs), network.tensors(inputs, role="encoder")
    assert got["embeddings"].shape == (batch, 256, 16, 16)
    assert relative(got["embeddings"], want["embeddings"]) <= RELATIVE


def test_queries_and_keys_of_random_weights_have_an_effect(model):
    network, _ = model
    check_attention(network, sam.FAMILY.tolerance, examples_of(network, "decoder", "encoder"))


def test_pixels_outside_the_valid_size_have_no_effect(model):
    _, local = model
    pixels, geometry = resize.longest(sample_pictures.photo()[:150], SMALL, SMALL)
    size = np.array([geometry.valid_size], np.int32)
    dirty = pixels.copy()
    dirty[size[0, 0] :] = sample_pictures.noise(SMALL - size[0, 0], SMALL)
    clean, other = (local.nets["encoder"].tensors({"pixels": p[None], "valid_size": size}) for p in (pixels, dirty))
    np.testing.assert_array_equal(clean["embeddings"], other["embeddings"])


def test_the_models_own_processor_prepares_the_same_pixels(model):
    network, _ = model
    for name, picture in sample_pictures.views().items():
        pixels, geometry = resize.longest(picture, SMALL, SMALL)
        processed = network.processor(picture, return_tensors="np")
        assert processed["reshaped_input_sizes"][0].tolist() == list(geometry.valid_size), name
        normal = (pixels / 255 - normalise.MEAN) / np.array(normalise.STD)
        normal[geometry.valid_size[0] :] = 0
        normal[:, geometry.valid_size[1] :] = 0
        # Pillow and torchvision round some pixels to neighbouring grey levels, of which one is 0.0175
        assert np.abs(processed["pixel_values"][0].transpose(1, 2, 0) - normal).max() <= 0.018, name


@pytest.mark.parametrize("what", ["two prompts of points", "a box", "a box, points and a mask"])
def test_the_decoder_graph_computes_the_models_masks_at_true_size(true_size, what):
    network, decoder = true_size
    inputs = network.examples("decoder")[what]
    got, want = decoder.tensors(inputs), network.tensors(inputs, role="decoder")
    assert got["low_res_masks"].shape == (len(inputs["embeddings"]), 4, 256, 256)
    for name in want:
        assert relative(got[name], want[name]) <= RELATIVE, name


@pytest.fixture(scope="module")
def true_size(tmp_path_factory):
    """The decoder as released, with an encoder of one layer, which the test does not run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sam._VISION, "vit_b", {"num_hidden_layers": 1})
        network = sam.SAMNetwork(sam.random(sam.config(ENTRY), seed=4), "seed 4")
    path = tmp_path_factory.mktemp("decoder") / "decoder.onnx"
    network.export(path, "decoder")
    return network, LocalNet(path, sam.point().nets[1])


def test_float64_reference_agrees_with_float32(true_size):
    network, _ = true_size
    inputs = network.examples("decoder")["a box, points and a mask"]
    single, double = network.tensors(inputs, role="decoder"), network.tensors(inputs, double=True, role="decoder")
    assert double["low_res_masks"].dtype == np.float64
    assert relative(single["low_res_masks"], double["low_res_masks"]) <= 1e-4


QUESTIONS = (
    {"points": [[60, 40]]},
    {"points": [[60, 40], [10.5, 70]], "point_labels": [1, 0]},
    {"points": [[60, 40], [10.5, 70], [0, 0]], "point_labels": [0, 1, -1], "multimask": False},
    {"box": [5, 6.5, 80, 70]},
    {"box": [5, 6.5, 80, 70], "points": [[40, 30]], "point_labels": [0], "multimask": False},
    {},
)


@pytest.mark.parametrize("view", ["odd-220x316", "wide-512x260", "large-1100"])
def test_the_composition_selects_what_the_processor_and_the_model_select(model, view):
    network, local = model
    picture = sample_pictures.views()[view]
    for given in QUESTIONS:
        got = local(picture, given)
        want = network.predict(picture, resolve(local.point.task.parameters, given))
        assert got["image_size"].tolist() == list(picture.shape[:2])
        assert len(got["masks"]) == len(want["masks"]) == (3 if given.get("multimask", True) else 1)
        # logits carry the grey levels by which Pillow and torchvision differ
        assert np.abs(got["scores"] - want["scores"]).max() <= 5e-3, given
        for mask, other in zip(got["masks"], want["masks"], strict=True):
            assert compare.mask_difference(mask, other, np.array(picture.shape[:2])) <= 0.01, given


def test_random_masks_cover_a_part_and_differ_between_prompts_and_pictures(model):
    check_random_masks(model[1], QUESTIONS)


def test_an_earlier_mask_as_a_prompt_gives_the_models_answer(model):
    network, local = model
    first = local(sample_pictures.photo(), {"points": [[200, 100]]})
    sample = {"embeddings": first["embeddings"], "mask_input": first["low_res_masks"][1]}
    got = local(sample, {"points": [[200, 100]], "image_size": [512, 512]})
    prompt = {
        "embeddings": first["embeddings"][None], "mask_input": first["low_res_masks"][None, 1:2],
        "has_mask": np.ones((1, 1), np.float32), "point_coords": np.float32([[[100, 50], [0, 0]]]),
        "point_labels": np.float32([[1, -1]]),
    }  # fmt: skip
    want = network.tensors(prompt, role="decoder")
    assert relative(got["low_res_masks"], want["low_res_masks"][0, 1:]) <= RELATIVE
    assert relative(got["low_res_masks"], first["low_res_masks"]) > 0.05


def authors_names(state):
    """The state dict under the names of segment-anything."""
    inverse = [
        ("vision_encoder.", "image_encoder."), ("neck.conv1", "neck.0"), ("neck.layer_norm1", "neck.1"),
        ("neck.conv2", "neck.2"), ("neck.layer_norm2", "neck.3"), (".point_embed.", ".point_embeddings."),
        *AUTHORS_NAMES,
        ("layers.0.", "layers.1."), ("proj_in.", "layers.0."), ("proj_out.", "layers.2."),
    ]  # fmt: skip
    renamed = {}
    for name, value in state.items():
        if name == "shared_image_embedding.positional_embedding":
            continue
        if name.startswith("vision_encoder"):
            name = re.sub(r"\.layers\.", ".blocks.", name)
        small = "_mlps." in name or "iou_prediction_head" in name
        for ours, theirs in inverse:
            if ("layers" in ours + theirs) <= small:
                name = name.replace(ours, theirs)
        renamed[name] = value
    return renamed


def test_weights_under_the_authors_names_are_read(true_size, tmp_path, monkeypatch):
    network, _ = true_size
    monkeypatch.setitem(sam._VISION, "vit_b", {"num_hidden_layers": 1})
    state = authors_names(network._model.state_dict())
    assert {"image_encoder.pos_embed", "mask_decoder.transformer.norm_final_attn.weight"} <= set(state)
    torch.save(state, tmp_path / "sam_vit_b.pth")
    read = sam.FAMILY.build(ENTRY, Weights("user", path=tmp_path / "sam_vit_b.pth"))
    for (name, ours), theirs in zip(
        network._model.state_dict().items(), read._model.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), name
    assert read.source == "sam_vit_b.pth" and len(read.sha256) == 64
    with pytest.raises(ExportFailed, match="not those of sam-vit_l"):
        sam.FAMILY.build(catalog.find("sam-vit_l"), Weights("user", path=tmp_path / "sam_vit_b.pth"))


def test_class_names_are_refused():
    with pytest.raises(ExportFailed, match="no classes"):
        sam.FAMILY.build(ENTRY, Weights("random", labels=("cat",)))


# ---- every object of a picture ---------------------------------------------------------------------------------------


def every_mask(local, encoding, **given):
    """The masks of the whole grid, and the reports of its progress."""

    async def ask(sample, parameters, outputs):
        found = encoding
        if "embeddings" not in outputs:
            given = {"embeddings": encoding["embeddings"]}
            found = local(given, {**parameters, "image_size": encoding["image_size"].tolist()})
        return codec.to_result({name: found[name] for name in outputs}, parameters)

    async def walked():
        return [step async for step in mask_grid.walk(ask, b"", given)]

    *told, found = asyncio.run(walked())
    return found, [(step.done, step.total) for step in told]


def all_figures(network, local, encoding, given):
    """Expected IoU and stability of every mask of the grid, both by transformers' own arithmetic."""
    from transformers.models.sam.image_processing_sam import _compute_stability_score

    size = encoding["image_size"].tolist()
    settings = resolve(mask_grid.PARAMETERS, {**given, "pred_iou_thresh": 0, "stability_score_thresh": 0})
    answers = [
        local({"embeddings": encoding["embeddings"]}, question | {"image_size": size})
        for question in mask_grid.questions(settings, *size)
    ]
    low = torch.from_numpy(np.concatenate([answer["low_res_masks"] for answer in answers]))
    sizes = [size], [resize.fitted(*size, SMALL)]
    (masks,) = network.processor.image_processor.post_process_masks([low[None]], *sizes, binarize=False)
    stability = _compute_stability_score(masks[0], settings["mask_threshold"], settings["stability_score_offset"])
    return np.concatenate([answer["scores"] for answer in answers]), stability.numpy()


def between(figures, share):
    """A threshold within 0 to 1 that about ``share`` of the figures do not reach, in a wide gap between two of them."""
    ordered = np.sort(figures[(figures > 0.02) & (figures < 1)])
    near = np.arange(len(ordered) - 1)[: int(share * len(ordered)) + 1][-8:]
    widest = near[np.argmax(np.diff(ordered)[near])]
    assert ordered[widest + 1] - ordered[widest] > 1e-4
    return float(ordered[widest : widest + 2].mean())


@pytest.mark.parametrize("view", ["odd-220x316", "wide-512x260"])
@pytest.mark.parametrize("given", [
    # random masks reach over the whole picture, their peaks do not
    {"points_per_side": 6, "points_per_batch": 10, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0,
     "mask_threshold": 8.0},
    {"points_per_side": 6, "mask_threshold": 9.0, "crops_nms_thresh": 0.9, "pred_iou_thresh": 0.0},
    {"points_per_side": 4, "stability_score_offset": 0.5, "crops_nms_thresh": 1.0},
])  # fmt: skip
def test_the_grid_finds_the_masks_of_transformers_pipeline(model, monkeypatch, view, given):
    network, local = model
    picture = sample_pictures.views()[view]
    encoding = local(picture)
    # grey levels by which Pillow and torchvision differ would decide what is left out
    ours = torch.from_numpy(encoding["embeddings"])[None]
    monkeypatch.setattr(network._model, "get_image_embeddings", lambda pixels: ours)
    scores, stability = all_figures(network, local, encoding, given)
    if "pred_iou_thresh" not in given:  # logits of random weights have another scale
        given = given | {"pred_iou_thresh": between(scores, 0.1)}
        stability = stability[scores > given["pred_iou_thresh"]]
    if "stability_score_thresh" not in given:
        given = given | {"stability_score_thresh": between(stability, 0.1)}
    got, told = every_mask(local, encoding, **given)
    total = given["points_per_side"] ** 2
    assert told[0] == (0, total) and told[-1] == (total, total)
    assert len(told) == 1 + -(-total // given.get("points_per_batch", 64))
    assert len(got.scores) < len(scores)
    check_against_pipeline(network, picture, given, got, 1e-4)
