"""SAM2 on streams: the graphs compute what transformers' Sam2VideoModel does, and streams go as its sessions do."""

import torch  # isort: skip

import io

import numpy as np
import pytest
from attention import check_attention, examples_of
from prompted_masks import RELATIVE, relative
from pycocotools import mask as coco

from tritonvision import catalog
from tritonvision.ensembles.in_process import LocalComposition
from tritonvision.errors import ExportFailed
from tritonvision.exporters.families import sam2, sam2_rt
from tritonvision.exporters.families.sam2 import configs
from tritonvision.exporters.families.sam2_rt import graphs
from tritonvision.exporters.parity.checks.tracking import frames

ENTRY = catalog.find("sam2-rt-tiny")
SMALL = 128  # pixels a side
LAYERS = {"blocks_per_stage": [1, 1, 2, 1], "global_attention_blocks": [3]}  # of every kind, see test_sam2
ROLES = ("encoder", "attention", "decoder", "memory")

pytestmark = pytest.mark.usefixtures("few_threads")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(configs._BACKBONES, "tiny", LAYERS)
        network = sam2_rt.SAM2RTNetwork(sam2_rt.random(sam2_rt.config(ENTRY, SMALL), seed=3), "seed 3")
    folder = tmp_path_factory.mktemp("graphs")
    files = {role: folder / f"{role}.onnx" for role in ROLES}
    with pytest.MonkeyPatch.context() as patch:  # as at the true size, attention comes in parts
        patch.setattr(sam2.graphs, "_ROWS", 4)
        patch.setattr(graphs, "_ROWS", 16)
        for role, path in files.items():
            network.export(path, role)
    return network, LocalComposition(files, network.entry_points[0])


@pytest.mark.parametrize("role", ROLES)
def test_the_graphs_compute_what_the_model_does(model, role):
    network, local = model
    for what, inputs in network.examples(role).items():
        got, want = local.nets[role].tensors(inputs), network.tensors(inputs, role=role)
        assert got.keys() == want.keys()
        for name, value in want.items():
            assert got[name].shape == value.shape, (what, name)
            assert relative(got[name], value) <= RELATIVE, (what, name)


def test_queries_and_keys_of_random_weights_have_an_effect(model):
    network, _ = model
    check_attention(network, sam2_rt.FAMILY.tolerance, examples_of(network, *ROLES))


def test_weights_of_another_sam2_are_refused(model, monkeypatch):
    network, _ = model
    monkeypatch.setattr(network._model.config, "memory_attention_num_attention_heads", 2)
    with pytest.raises(ExportFailed, match="another SAM2"):
        graphs.attention(network._model)
    monkeypatch.setattr(network._model.config, "max_cond_frame_num", 4)
    with pytest.raises(ExportFailed, match="another SAM2"):
        sam2_rt.SAM2RTNetwork(network._model)


def dense(answer):
    size = answer["image_size"].tolist()
    return [coco.decode({"size": size, "counts": counts}).astype(bool) for counts in answer["masks"]]


def iou(one, other):
    either = (one | other).sum()
    return 1.0 if not either else (one & other).sum() / either


FIRST = {"boxes": [[100, 60, 330.5, 400]], "box_objects": [3], "points": [[60, 90]], "point_objects": [1]}
THEIRS = {3: {"box": [100, 60, 330.5, 400]}, 1: {"points": [[60, 90]], "labels": [1]}}
CORRECTION = {"points": [[70, 100], [200, 300]], "point_labels": [1, 0], "point_objects": [1, 1]}
THEIR_CORRECTION = {1: {"points": [[70, 100], [200, 300]], "labels": [1, 0]}}


def followed(step, video, corrected=8):
    """The answers of a stream with two objects, one of which is corrected on the way."""
    return [
        step({"image": frame_of(frame)}, FIRST if not i else CORRECTION if i == corrected else {})
        for i, frame in enumerate(video)
    ]


def frame_of(picture):
    stream = io.BytesIO()
    np.save(stream, picture)
    return stream.getvalue()


def test_two_objects_are_followed_through_twenty_frames_as_the_reference_follows_them(model):
    network, local = model
    video = frames(20)
    session, worst = sam2_rt.Session(network), []
    for i, answer in enumerate(followed(local.stream(), video)):
        masks, scores = session.step(video[i], THEIRS if not i else THEIR_CORRECTION if i == 8 else {})
        assert answer["object_ids"].tolist() == [3, 1] and answer["frame"].tolist() == [i]
        worst.append(min(iou(ours, theirs) for ours, theirs in zip(dense(answer), masks, strict=True)))
        assert np.abs(answer["scores"] - scores).max() <= 0.01
    assert min(worst) >= 0.98, worst


# The reference counts the frames of a stream of fewer than 16 otherwise when a frame before is corrected.
@pytest.mark.slow
def test_a_prompt_about_a_frame_before_corrects_what_is_remembered_of_it(model):
    network, local = model
    video, step, session = frames(18), local.stream(), sam2_rt.Session(network)
    for i, frame in enumerate(video[:17]):
        step({"image": frame_of(frame)}, FIRST if not i else {})
        session.step(frame, THEIRS if not i else {})
    got = step({}, {**CORRECTION, "frame": 15})
    want, _ = session.step(None, THEIR_CORRECTION, number=15)
    assert got["frame"].tolist() == [15] and min(map(iou, dense(got), want)) >= 0.98
    after, (theirs, _) = step({"image": frame_of(video[17])}, {}), session.step(video[17], {})
    assert after["frame"].tolist() == [17] and min(map(iou, dense(after), theirs)) >= 0.98


def test_the_prompts_decide_which_objects_are_followed(model):
    _, local = model
    (video,) = [frames(1)]
    one, other = (local.stream()({"image": frame_of(video[0])}, given) for given in (FIRST, CORRECTION))
    assert iou(dense(one)[1], dense(other)[0]) < 0.98 and iou(*dense(one)) < 0.9


def test_objects_that_are_not_seen_have_an_empty_mask(model):
    network, local = model
    with torch.no_grad():
        bias = network._model.mask_decoder.pred_obj_score_head.proj_out.bias
        before = bias.clone()
        bias.fill_(-100)
    try:
        masks, scores = sam2_rt.Session(network).step(frames(1)[0], THEIRS)
    finally:
        with torch.no_grad():
            bias.copy_(before)
    assert not masks.any() and scores.max() < 0.01
    call = local._composition._call

    def unseen(role, inputs, outputs):
        found = call(role, inputs, outputs)
        return found | {"object_scores": np.full_like(found["object_scores"], -100)} if role == "decoder" else found

    local._composition._call = unseen
    try:
        answer = local(frames(1)[0], FIRST)
    finally:
        local._composition._call = call
    assert not any(mask.any() for mask in dense(answer)) and answer["scores"].max() < 0.01
