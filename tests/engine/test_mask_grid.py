"""The grid of points over a promptable model: its questions, which masks stay, how far it is, and its end.

That the whole finds what transformers' pipeline finds is tested beside it, in the export environment.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from tritonvision import tasks
from tritonvision.engine import mask_grid
from tritonvision.engine.engine import Engine
from tritonvision.engine.mask_grid import Progress
from tritonvision.errors import InvalidParameter
from tritonvision.publication import MANIFEST, Manifest
from tritonvision.results import InstancesRLEMasks, SAMImageEmbeddings, SAMPrediction
from tritonvision.settings import Settings

HEIGHT, WIDTH = 30, 40


def run_lengths(*shapes: np.ndarray) -> InstancesRLEMasks:
    return InstancesRLEMasks(
        (HEIGHT, WIDTH), [coco.encode(np.asfortranarray(shape.astype(np.uint8)))["counts"] for shape in shapes]
    )


def rectangle(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    """The mask of these columns and rows, the last two among them."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top : bottom + 1, left : right + 1] = True
    return mask


class Model:
    """A promptable model to whom every point is a square around it: the farther right, the better."""

    def __init__(self, fails_at: int = -1):
        self.asked: list[tuple[dict, dict, tuple]] = []
        self.fails_at = fails_at

    async def ask(self, sample, parameters, outputs):
        self.asked.append((dict(sample), dict(parameters), tuple(outputs)))
        if len(self.asked) == self.fails_at:
            raise InvalidParameter("No.")
        if "embeddings" in outputs:
            return SAMImageEmbeddings(np.zeros((256, 4, 4), np.float32), (HEIGHT, WIDTH))
        given = tasks.resolve(tasks.PROMPTABLE.parameters, parameters)
        points = [(int(x), int(y)) for x, y in given["points"]]
        masks = run_lengths(*(rectangle(max(x - 2, 0), max(y - 2, 0), x + 2, y + 2) for x, y in points))
        scores = np.array([x / WIDTH for x, _ in points], np.float32)
        return SAMPrediction(scores, masks, image_metadata={"height": HEIGHT, "width": WIDTH})


def walked(model: Model, **parameters):
    async def main():
        return [step async for step in mask_grid.walk(model.ask, b"picture", parameters)]

    return asyncio.run(main())


def test_the_picture_is_encoded_once_and_the_points_go_in_parts():
    model = Model()
    *told, found = walked(model, points_per_side=4, points_per_batch=6)
    assert told == [Progress(0, 16), Progress(6, 16), Progress(12, 16), Progress(16, 16)]
    (first, *others) = model.asked
    assert first == ({"image": b"picture"}, {"auto_orient": True}, ("embeddings", "image_size"))
    assert [len(parameters["points"]) for _, parameters, _ in others] == [6, 6, 4]
    assert all(sample == {"image": b"picture"} and outputs == mask_grid._MASKS for sample, _, outputs in others)
    points = [tuple(point) for _, parameters, _ in others for point in parameters["points"]]
    assert points == [(5 + 10 * x, 3.75 + 7.5 * y) for y in range(4) for x in range(4)]
    assert len(found.scores) == len(found.masks.masks) == 16 and (np.diff(found.scores) <= 0).all()
    assert found.image_metadata == {"height": HEIGHT, "width": WIDTH}


def test_settings_reach_the_model_and_their_defaults_are_the_references():
    model = Model()
    walked(model)
    given = model.asked[1][1]
    assert sum(len(parameters["points"]) for _, parameters, _ in model.asked[1:]) == 1024 and len(given["points"]) == 64
    assert (given["min_score"], given["min_stability"], given["stability_offset"]) == (0.88, 0.95, 1.0)
    assert given["each_point"] and given["multimask"] and given["mask_threshold"] == 0
    model = Model()
    walked(
        model, points_per_side=1, pred_iou_thresh=0.5, stability_score_thresh=0.6, stability_score_offset=2,
        mask_threshold=1, auto_orient=False,
    )  # fmt: skip
    given = model.asked[1][1]
    assert (given["min_score"], given["min_stability"], given["stability_offset"]) == (0.5, 0.6, 2.0)
    assert given["mask_threshold"] == 1 and model.asked[0][1] == {"auto_orient": False}


@pytest.mark.parametrize("parameters", [
    {"points_per_side": 0}, {"points_per_side": 101}, {"points_per_side": 2.5}, {"points_per_batch": 257},
    {"pred_iou_thresh": 2}, {"crops_nms_thresh": "much"}, {"crops_n_layers": 1},
])  # fmt: skip
def test_settings_out_of_range_are_refused_before_anything_is_asked(parameters):
    model = Model()
    with pytest.raises(InvalidParameter, match=next(iter(parameters))):
        walked(model, **parameters)
    assert not model.asked


def test_a_walk_that_is_closed_asks_nothing_more():
    model = Model()

    async def main():
        async with aclosing(mask_grid.walk(model.ask, b"", {"points_per_side": 4, "points_per_batch": 2})) as steps:
            async for step in steps:
                if step.done == 4:
                    return

    asyncio.run(main())
    assert len(model.asked) == 3


def test_a_failure_on_the_way_is_the_callers():
    with pytest.raises(InvalidParameter, match="No."):
        walked(Model(fails_at=2))


def test_of_masks_whose_boxes_overlap_the_best_stays():
    masks = run_lengths(
        rectangle(0, 0, 10, 10), rectangle(1, 0, 11, 10), rectangle(20, 0, 30, 10), np.zeros((HEIGHT, WIDTH), bool),
        rectangle(5, 5, 5, 5), np.zeros((HEIGHT, WIDTH), bool),
    )  # fmt: skip
    prediction = SAMPrediction(np.array([0.8, 0.9, 0.7, 0.6, 0.95, 0.6], np.float32), masks)
    kept = mask_grid.distinct([prediction], 0.7)
    assert kept.scores.tolist() == np.float32([0.95, 0.9, 0.7, 0.6, 0.6]).tolist()
    assert kept.masks.masks[1] == masks.masks[1]
    assert len(mask_grid.distinct([prediction, prediction], 1.0).scores) == 12
    assert mask_grid.distinct([SAMPrediction(np.zeros(0, np.float32), run_lengths())], 0.7).masks.masks == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, WIDTH - 1), st.integers(0, HEIGHT - 1)), max_size=40), st.booleans())
def test_boxes_are_the_outermost_columns_and_rows(pixels, full_columns):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    for x, y in pixels:
        mask[slice(None) if full_columns else y, x] = True
    rows, columns = np.nonzero(mask)
    wanted = [columns.min(), rows.min(), columns.max(), rows.max()] if pixels else [0, 0, 0, 0]
    assert mask_grid.boxes(run_lengths(mask)).tolist() == [wanted]


# ---- in the engine ---------------------------------------------------------------------------------------------------


class Wire:
    """What stands for Triton: it notes how long each question may take, and whether the model is held meanwhile."""

    def __init__(self, engine: Engine):
        self.engine, self.asked = engine, []

    width = 1

    async def call(self, model, samples, parameters, deadline, outputs=(), affinity=b""):
        self.asked.append((model, round(deadline), self.engine.loaded_models._busy["clicks"]))
        size = np.array([HEIGHT, WIDTH], np.int32)
        if "embeddings" in outputs:
            return [{"embeddings": np.zeros((256, 4, 4), np.float32), "image_size": size}]
        nothing = np.array([], dtype=object)
        return [{"masks": nothing, "scores": np.zeros(0, np.float32), "image_size": size}]


def engine_of(root, task: str) -> Engine:
    manifest = Manifest(
        id="clicks", family="SAM", task=task, head="promptable-masks", weights="random", source="seed 0", sha256="0",
        license="MIT", precision="fp32", labels=(), input_size=None, steps=(),
    )  # fmt: skip
    (root / "clicks").mkdir()
    (root / "clicks" / MANIFEST).write_text(manifest.to_json())
    engine = Engine(Settings(repository=root, triton_url="127.0.0.1:1", deadline=3, stream_idle_timeout=99))
    engine.loaded_models.add(engine.repository.resolve("clicks"))
    engine._client = Wire(engine)
    return engine


def test_each_part_may_take_as_long_as_a_pause_and_the_model_stays_until_the_end(tmp_path):
    engine = engine_of(tmp_path, tasks.PROMPTABLE.name)

    async def main():
        grid = {"points_per_side": 4, "points_per_batch": 8}
        return [step async for step in engine.generate_masks("clicks", b"picture", grid)]

    *told, found = asyncio.run(main())
    assert told == [Progress(0, 16), Progress(8, 16), Progress(16, 16)] and len(found.scores) == 0
    assert engine._client.asked == [("clicks", 99, 1)] * 3 and engine.loaded_models._busy["clicks"] == 0


def test_a_model_that_takes_no_prompts_walks_no_grid(tmp_path):
    async def main():
        return [step async for step in engine_of(tmp_path, "classification").generate_masks("clicks", b"", {})]

    with pytest.raises(InvalidParameter, match="does classification"):
        asyncio.run(main())
