"""Promptable masks: one encoding a picture, prompts in the network's frame, masks at the picture's size."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco

from tritonvision.errors import InvalidParameter, InvalidPicture
from tritonvision.python_backend.compositions.promptable_masks import TASK, Composition
from tritonvision.python_backend.runtime.encoding_cache import SharedCache
from tritonvision.tasks import resolve

HEIGHT, WIDTH = 300, 400


class Networks:
    """Stand-ins that remember what they were asked: the embeddings tell the picture, the masks are discs."""

    def __init__(self):
        self.asked = []

    def __call__(self, role, inputs, outputs):
        self.asked.append((role, {name: value.copy() for name, value in inputs.items()}))
        if role == "encoder":
            digest = hashlib.sha256(inputs["pixels"].tobytes() + inputs["valid_size"].tobytes()).digest()
            seed = int.from_bytes(digest[:4], "little")
            return {"embeddings": np.random.default_rng(seed).normal(size=(1, 256, 64, 64)).astype(np.float32)}
        y, x = np.mgrid[:256, :256].astype(np.float32)
        centres = inputs["point_coords"][:, 0] / 4
        far = np.hypot(x + 0.5 - centres[:, 0, None, None], y + 0.5 - centres[:, 1, None, None])
        logits = np.stack([radius - far for radius in (10, 20, 30, 40)], axis=1).astype(np.float32)
        return {"low_res_masks": logits, "iou_scores": np.tile(np.float32([0.1, 0.2, 0.3, 0.4]), (len(centres), 1))}

    @property
    def roles(self):
        return [role for role, _ in self.asked]

    @property
    def prompt(self):
        return self.asked[-1][1]


def png(height=HEIGHT, width=WIDTH, seed=0, **options):
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", **options)
    return stream.getvalue()


@pytest.fixture
def networks():
    return Networks()


@pytest.fixture
def composition(networks, tmp_path):
    return Composition(networks, {"side": 1024, "model": "m"}, SharedCache(tmp_path / "cache"))


def ask(composition, sample=None, wanted=None, **settings):
    return composition.answer(sample or {"image": png()}, resolve(TASK.parameters, settings), wanted)


def decoded(answer):
    height, width = answer["image_size"].tolist()
    return [coco.decode({"size": [height, width], "counts": counts}).astype(bool) for counts in answer["masks"]]


def test_three_proposals_or_one_with_the_scores_of_their_tokens(composition):
    many, one = ask(composition, points=[[200, 100]]), ask(composition, points=[[200, 100]], multimask=False)
    assert many["scores"].tolist() == np.float32([0.2, 0.3, 0.4]).tolist()
    assert one["scores"].tolist() == np.float32([0.1]).tolist()
    assert many["low_res_masks"].shape == (3, 256, 256) and one["low_res_masks"].shape == (1, 256, 256)
    assert len(many["masks"]) == 3 and len(one["masks"]) == 1
    assert many["image_size"].tolist() == [HEIGHT, WIDTH]
    assert "embeddings" not in many


def test_masks_lie_where_the_logits_are_positive_in_picture_pixels(composition):
    for mask, radius in zip(decoded(ask(composition, points=[[200, 100]])), (20, 30, 40), strict=True):
        y, x = np.mgrid[:HEIGHT, :WIDTH]
        disc = np.hypot(x + 0.5 - 200, y + 0.5 - 100) < radius * 4 * WIDTH / 1024
        union = (mask | disc).sum()
        assert (mask & disc).sum() / union > 0.97


@given(
    st.integers(1, 900), st.integers(1, 900), st.floats(0, 1), st.floats(0, 1),
    st.sampled_from(["rle", "polygon", "none"]),
)  # fmt: skip
def test_a_mask_is_the_enlarged_logits_of_the_part_that_is_no_padding(height, width, x, y, form):
    import cv2

    networks = Networks()
    composition = Composition(networks, {"side": 1024}, SharedCache(Path("/dev/null/x")))
    sample = {"embeddings": np.zeros((256, 64, 64), np.float32)}
    answer = ask(
        composition, sample, points=[[x * width, y * height]], image_size=[height, width], mask_format=form,
        multimask=False,
    )  # fmt: skip
    if form == "none":
        assert answer["masks"].shape == (0,)
        return
    scale = 1024 / max(height, width)
    rows, columns = max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)
    frame = cv2.resize(answer["low_res_masks"][0], (1024, 1024), interpolation=cv2.INTER_LINEAR)[:rows, :columns]
    values = cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR)
    certain = np.abs(values) > 1e-3  # nearer to zero, the rounding of either side may decide
    if form == "rle":
        np.testing.assert_array_equal(decoded(answer)[0][certain], values[certain] > 0)
    else:
        outline = np.frombuffer(answer["masks"][0], "<i4").reshape(-1, 2)
        assert len(outline) or not (values > 1e-3).any()
        assert all(values[row, column] > -1e-3 for column, row in outline)


def test_prompts_reach_the_decoder_in_the_frame_of_the_encoder(composition, networks):
    ask(composition, points=[[400, 300], [20.5, 10]], point_labels=[1, 0])
    np.testing.assert_allclose(networks.prompt["point_coords"][0], [[1024, 768], [52.48, 25.6], [0, 0]])
    assert networks.prompt["point_labels"].tolist() == [[1, 0, -1]]
    assert networks.prompt["has_mask"].tolist() == [[0]] and not networks.prompt["mask_input"].any()


def test_a_box_goes_last_and_takes_the_place_of_the_point_that_is_none(composition, networks):
    ask(composition, points=[[100, 150]], box=[0, 75, 200, 300])
    np.testing.assert_allclose(networks.prompt["point_coords"][0], [[256, 384], [0, 192], [512, 768]])
    assert networks.prompt["point_labels"].tolist() == [[1, 2, 3]]
    ask(composition, box=[0, 75, 200, 300])
    assert networks.prompt["point_labels"].tolist() == [[2, 3]]


def test_no_prompt_is_a_point_that_is_none(composition, networks):
    ask(composition)
    assert networks.prompt["point_coords"].tolist() == [[[0, 0], [0, 0]]]
    assert networks.prompt["point_labels"].tolist() == [[-1, -1]]


def test_an_earlier_mask_is_handed_on(composition, networks):
    earlier = ask(composition, points=[[200, 100]])["low_res_masks"][2]
    ask(composition, {"image": png(), "mask_input": earlier}, points=[[210, 100]])
    np.testing.assert_array_equal(networks.prompt["mask_input"][0, 0], earlier)
    assert networks.prompt["has_mask"].tolist() == [[1]]


def test_a_picture_is_encoded_once_whatever_is_asked_about_it(composition, networks, tmp_path):
    for settings in ({"points": [[1, 2]]}, {"box": [0, 0, 5, 5]}, {"multimask": False}, {"mask_format": "none"}):
        ask(composition, **settings)
    assert networks.roles == ["encoder"] + ["decoder"] * 4
    other = Composition(networks, {"side": 1024, "model": "m"}, SharedCache(tmp_path / "cache"))
    ask(other)
    assert networks.roles.count("encoder") == 1


def test_another_picture_orientation_or_model_is_encoded_by_itself(composition, networks, tmp_path):
    ask(composition)
    ask(composition, {"image": png(seed=1)})
    ask(composition, auto_orient=False)
    ask(Composition(networks, {"side": 1024, "model": "other"}, SharedCache(tmp_path / "cache")))
    assert networks.roles.count("encoder") == 4


def test_a_turned_picture_is_measured_as_people_see_it(composition, networks):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    data = png(exif=exif)
    assert ask(composition, {"image": data})["image_size"].tolist() == [WIDTH, HEIGHT]
    ask(composition, {"image": data}, points=[[HEIGHT, WIDTH]])
    with pytest.raises(InvalidParameter, match="outside the picture of 300 x 400"):
        ask(composition, {"image": data}, points=[[WIDTH, HEIGHT]])
    assert ask(composition, {"image": data}, auto_orient=False)["image_size"].tolist() == [HEIGHT, WIDTH]


def test_embeddings_stand_for_the_picture_and_the_encoder_is_left_alone(composition, networks):
    first = ask(composition, points=[[200, 100]], wanted={"embeddings", "masks", "scores"})
    again = ask(composition, {"embeddings": first["embeddings"]}, points=[[200, 100]], image_size=[HEIGHT, WIDTH])
    assert again["masks"].tolist() == first["masks"].tolist()
    assert networks.roles == ["encoder", "decoder", "decoder"]


def test_embeddings_alone_cost_no_decoder(composition, networks):
    answer = ask(composition, wanted={"embeddings", "image_size"})
    assert set(answer) == {"embeddings", "image_size"}
    assert answer["embeddings"].shape == (256, 64, 64) and answer["embeddings"].dtype == np.float32
    assert networks.roles == ["encoder"]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"points": [[400.5, 10]]}, "The point (400.5, 10) lies outside the picture of 400 x 300 pixels."),
        ({"points": [[-1, 10]]}, "outside the picture"),
        ({"points": [[1, 301]], "point_labels": [0]}, "outside the picture"),
        ({"points": [[1, 1], [2, 2]], "point_labels": [1]}, "There are 2 points and 1 labels."),
        ({"point_labels": [1]}, "There are 0 points and 1 labels."),
        ({"points": [[1, 1]], "point_labels": [7]}, "label must be"),
        ({"points": [[1, 1]], "point_labels": [0.5]}, "label must be"),
        ({"points": [[1, 1]] * 257}, "may have 256 points"),
        ({"box": [10, 10, 5, 20]}, "The box must be"),
        ({"box": [0, 0, 401, 20]}, "inside the picture of 400 x 300"),
    ],
)
def test_prompts_the_picture_does_not_have_are_refused(composition, settings, sentence):
    with pytest.raises(InvalidParameter) as caught:
        ask(composition, **settings)
    assert sentence in caught.value.message


def test_a_point_that_is_none_may_lie_anywhere(composition, networks):
    ask(composition, points=[[-5, 9999]], point_labels=[-1])
    assert networks.prompt["point_labels"].tolist() == [[-1, -1]]


@pytest.mark.parametrize(
    "size", [None, [0, 5], [5.5, 5], [-3, 4], [20_000, 20_000]], ids=["none", "zero", "broken", "negative", "huge"]
)
def test_embeddings_without_a_true_size_are_refused(composition, size):
    with pytest.raises(InvalidParameter, match="image_size"):
        ask(composition, {"embeddings": np.zeros((256, 64, 64), np.float32)}, image_size=size)


def test_what_is_not_finite_is_refused(composition):
    with pytest.raises(InvalidParameter, match="'mask_input' must hold finite"):
        ask(composition, {"image": png(), "mask_input": np.full((256, 256), np.nan, np.float32)})
    with pytest.raises(InvalidParameter, match="'embeddings' must hold finite"):
        ask(composition, {"embeddings": np.full((256, 64, 64), np.inf, np.float32)}, image_size=[5, 5])


def test_no_picture_at_all_and_one_that_is_none_are_refused(composition, networks):
    with pytest.raises(InvalidParameter, match="neither a picture"):
        ask(composition, {"mask_input": np.zeros((256, 256), np.float32)})
    with pytest.raises(InvalidPicture):
        ask(composition, {"image": b"no picture"})
    assert networks.roles == []


# ---- one prompt a point ----------------------------------------------------------------------------------------------


def test_each_point_is_a_prompt_of_its_own_and_answered_as_if_it_were_alone(composition, networks):
    points = [[20.0 * (i + 1), 15.0 * (i + 1)] for i in range(19)]
    together = ask(composition, points=points, point_labels=[1] * 18 + [0], each_point=True)
    assert [len(given["embeddings"]) for role, given in networks.asked if role == "decoder"] == [8, 8, 3]
    assert networks.prompt["point_labels"].tolist() == [[1, -1], [1, -1], [0, -1]]
    alone = [ask(composition, points=[point]) for point in points]
    assert together["masks"].tolist() == [mask for one in alone for mask in one["masks"]]
    np.testing.assert_array_equal(together["scores"], np.concatenate([one["scores"] for one in alone]))
    np.testing.assert_array_equal(together["low_res_masks"], np.concatenate([one["low_res_masks"] for one in alone]))
    assert len(ask(composition, points=points, each_point=True, multimask=False)["masks"]) == 19


def test_logits_travel_only_when_they_are_wanted(composition):
    answer = ask(composition, points=[[9, 9]] * 9, each_point=True, wanted={"masks", "scores", "image_size"})
    assert len(answer["masks"]) == 27 and answer["low_res_masks"].shape == (0, 256, 256)


def test_masks_of_no_higher_score_are_left_out(composition):
    answer = ask(composition, points=[[200, 100]], min_score=0.25)
    assert answer["scores"].tolist() == np.float32([0.3, 0.4]).tolist() and len(answer["masks"]) == 2
    assert len(answer["low_res_masks"]) == 2
    nothing = ask(composition, points=[[200, 100]] * 2, each_point=True, min_score=0.9)
    assert nothing["scores"].shape == nothing["masks"].shape == (0,) and nothing["scores"].dtype == np.float32


@pytest.mark.parametrize("level, offset", [(0, 1), (5, 2), (-3, 0.5)])
def test_stability_is_the_share_of_a_mask_between_two_thresholds(composition, level, offset):
    given = {"points": [[200, 150]], "mask_threshold": level, "stability_offset": offset}
    for i, radius in enumerate((20, 30, 40)):
        # a disc whose logits fall by one a cell
        share = ((radius - level - offset) / (radius - level + offset)) ** 2
        below, over = (ask(composition, min_stability=share + step, **given) for step in (-0.005, 0.005))
        assert len(below["masks"]) == 3 - i and len(over["masks"]) == 2 - i


def test_the_threshold_of_logits_moves_the_edge(composition):
    areas = [
        decoded(ask(composition, points=[[200, 150]], multimask=False, mask_threshold=level))[0].sum()
        for level in (-3, 0, 3, 9.9, 50)
    ]
    for area, radius in zip(areas, (13, 10, 7), strict=False):
        assert area == pytest.approx(np.pi * (radius * 4 * WIDTH / 1024) ** 2, rel=0.05)
    assert areas[3] <= 1 and areas[4] == 0


def test_an_empty_mask_is_not_stable(composition):
    assert len(ask(composition, points=[[200, 150]], mask_threshold=60, min_stability=0.01)["masks"]) == 0
    assert len(ask(composition, points=[[200, 150]], mask_threshold=60)["masks"]) == 3


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({}, "there must be points, and no box"),
        ({"points": [[1, 1]], "box": [0, 0, 5, 5]}, "no box"),
        ({"points": [[1, 1], [2, 2]], "point_labels": [1]}, "There are 2 points and 1 labels."),
        ({"points": [[1, 1], [2, 2]], "point_labels": [2, 3]}, "label must be"),
        ({"points": [[1, 1], [401, 2]]}, "outside the picture of 400 x 300"),
        ({"points": [[1, 1]] * 257}, "may have 256 points"),
    ],
)
def test_prompts_that_cannot_be_asked_one_by_one_are_refused(composition, settings, sentence):
    with pytest.raises(InvalidParameter, match=sentence):
        ask(composition, each_point=True, **settings)
    with pytest.raises(InvalidParameter, match="earlier mask"):
        mask = np.zeros((256, 256), np.float32)
        ask(composition, {"image": png(), "mask_input": mask}, points=[[1, 1]] * 2, each_point=True)


# ---- where the picture fills the frame: SAM2 -------------------------------------------------------------------------

LEVELS = ("high_res_s0", "high_res_s1")


class FilledNetworks:
    """Stand-ins of SAM2: the first of four masks is stable as far as ``edge`` says, the third proposal is the best."""

    def __init__(self):
        self.asked, self.edge = [], 5.0

    def __call__(self, role, inputs, outputs):
        self.asked.append((role, {name: value.copy() for name, value in inputs.items()}))
        if role == "encoder":
            shapes = {"embeddings": (1, 256, 4, 4), "high_res_s0": (1, 32, 16, 16), "high_res_s1": (1, 64, 8, 8)}
            return {name: np.full(shapes[name], 3, np.float32) for name in outputs}
        count = inputs["has_mask"].shape[1]
        logits = np.full((1, count, 4, 16, 16), -5, np.float32)
        logits[:, :, :, :8] = 5
        logits[:, :, 0, 7] = self.edge
        return {"low_res_masks": logits, "iou_scores": np.tile(np.float32([0.1, 0.2, 0.9, 0.4]), (1, count, 1))}


@pytest.fixture
def filled(tmp_path):
    networks = FilledNetworks()
    options = {"side": 64, "model": "m", "filled": {"levels": list(LEVELS), "offset": 0.05, "stable": 0.98}}
    return networks, Composition(networks, options, SharedCache(tmp_path / "cache"))


def test_the_aspect_is_ignored_and_every_prompt_ends_with_a_point_that_is_none(filled):
    networks, composition = filled
    answer = ask(composition, {"image": png(30, 60)}, points=[[60, 15]], box=[30, 0, 60, 30])
    asked = networks.asked[-1][1]
    assert asked["point_coords"].tolist() == [[[[64, 32], [32, 0], [64, 64], [0, 0]]]]
    assert asked["point_labels"].tolist() == [[[1, 2, 3, -1]]]
    assert networks.asked[0][1]["pixels"].shape == (1, 64, 64, 3) and "valid_size" not in networks.asked[0][1]
    (mask, *_) = decoded(answer)
    assert mask[:15].all() and not mask[15:].any()


def test_one_answer_is_the_first_mask_where_it_is_stable_and_else_the_best_proposal(filled):
    networks, composition = filled
    assert ask(composition, points=[[5, 5]], multimask=False)["scores"].tolist() == np.float32([0.1]).tolist()
    networks.edge = 0.04  # a row of eight between the thresholds
    assert ask(composition, points=[[5, 5]], multimask=False)["scores"].tolist() == np.float32([0.9]).tolist()
    assert len(ask(composition, points=[[5, 5]])["scores"]) == 3


def test_several_prompts_read_the_picture_once(filled):
    networks, composition = filled
    answer = ask(composition, points=[[5, 5]] * 10, each_point=True, multimask=False)
    sizes = [inputs["point_coords"].shape[:2] for role, inputs in networks.asked if role == "decoder"]
    assert sizes == [(1, 8), (1, 2)] and len(answer["scores"]) == 10
    assert all(inputs["embeddings"].shape[0] == 1 for role, inputs in networks.asked if role == "decoder")


def test_embeddings_go_with_their_finer_levels(filled):
    networks, composition = filled
    features = ask(composition, wanted={"embeddings", *LEVELS})
    assert [role for role, _ in networks.asked] == ["encoder"]
    sample = {name: features[name] for name in ("embeddings", *LEVELS)}
    assert len(ask(composition, sample, points=[[5, 5]], image_size=[30, 60])["scores"]) == 3
    with pytest.raises(InvalidParameter, match="go with 'high_res_s0'") as refused:
        ask(composition, {"embeddings": features["embeddings"]}, image_size=[30, 60])
    assert "picture" in refused.value.hint
