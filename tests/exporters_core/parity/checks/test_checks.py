"""Each parity check: equal answers pass, and an answer with one field disturbed by twice its limit is refused."""

import numpy as np
import pytest
from check_specimens import SPECIMENS, TOLERANCE, Recorded, point, seen
from pycocotools import mask as coco

from tritonvision import tasks
from tritonvision.errors import ExportFailed
from tritonvision.exporters.contract import NoSignal
from tritonvision.exporters.parity.checks.base import Case
from tritonvision.exporters.parity.checks.registry import CHECKS
from tritonvision.exporters.parity.gate import Gate


class Tolerant:
    """What the gate reads of a family."""

    tolerance = TOLERANCE

    class reference_pipeline:
        package = "the reference"


def gated(name, change=None, weights="official"):
    """The gate's figures for the specimen ``name``, where the pipeline's answer to the last question is changed."""
    specimen, network = SPECIMENS[name], Recorded(SPECIMENS[name])
    cases = CHECKS[name](point(name), network, TOLERANCE, "official").cases()
    last = question(cases[-1].sample, cases[-1].given)

    def pipeline(sample, given=None):
        answer = specimen.served(network.predict(sample, tasks.resolve(specimen.task.parameters, given or {})))
        return change(answer) if change and question(sample, given) == last else answer

    return Gate(Tolerant, None, network, {}, weights)._check_answers(point(name), pipeline)


def question(sample, given):
    """What tells one question from another."""
    pictures = sample["pictures"] if isinstance(sample, dict) else sample if isinstance(sample, list) else [sample]
    messages = sample["messages"] if isinstance(sample, dict) else ()
    return [seen(picture) for picture in pictures], repr(messages), given


def test_every_check_has_a_specimen():
    assert SPECIMENS.keys() == CHECKS.keys()


@pytest.mark.parametrize("name", CHECKS)
def test_equal_answers_pass_with_every_figure_measured(name):
    figures = gated(name)
    assert figures.pop("pipeline_answers") > 0
    assert figures.keys() == {f"pipeline_{figure}" for figure in CHECKS[name].figures}
    assert max(figures.values()) <= 1e-5  # a map travels in 65536 steps


@pytest.mark.parametrize(("name", "change"), [(name, what) for name, one in SPECIMENS.items() for what in one.changes])
def test_what_differs_by_twice_the_limit_is_refused(name, change):
    with pytest.raises(ExportFailed, match=r"differ|disagree"):
        gated(name, SPECIMENS[name].changes[change])


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_that_measures_nothing_is_refused(name, monkeypatch):
    monkeypatch.setattr(CHECKS[name], "compare", lambda self, got, case: (1, 0, {}))
    with pytest.raises(ExportFailed, match="compared"):
        gated(name)


@pytest.mark.parametrize("name", CHECKS)
def test_answers_that_are_all_alike_carry_no_signal(name, monkeypatch):
    """A network that finds nothing, or says the same of everything, would pass any comparison."""
    specimen = SPECIMENS[name]
    same = CHECKS[name](point(name), Recorded(specimen), TOLERANCE, "official").cases()[0].wanted
    if name == "gaze":
        same |= {"yaw": np.float32([0.3, 0.3])}
    elif name == "dense-map":
        same = {"map": np.full((64, 64), 2.0)}
    elif "boxes" in same:
        same = {key: value if key == "image_size" else value[:0] for key, value in same.items()}
    monkeypatch.setattr(specimen, "answer", lambda sample, parameters: same)
    if name == "chat":  # a model that was trained may say the same of everything
        assert gated(name)
    with pytest.raises(NoSignal):
        gated(name, weights="random" if name == "chat" else "official")


@pytest.mark.parametrize(("weights", "side", "off", "error"), [
    ("random", 9, 1, NoSignal), ("random", 9, 2, None), ("official", 9, 1, None), ("random", 12, 2, None),
])  # fmt: skip
def test_one_pixel_of_a_tiny_random_mask_is_the_seeds_fault(weights, side, off, error):
    """A pixel of 81 is more than the limit, a hundredth. Two are a fault, and so is one where weights are trained."""
    wanted = np.zeros((40, 40), np.uint8)
    wanted[3 : 3 + side, 5 : 5 + side] = 1
    found = wanted.copy()
    found[3, 5 : 5 + off] = 0
    answer = {"boxes": np.float32([[5, 3, 20, 20]]), "scores": np.float32([0.7]), "class_ids": np.int32([0])}
    theirs, ours = ({**answer, "masks": np.array([coco.encode(np.asfortranarray(m))["counts"]], object)}
                    for m in (wanted, found))  # fmt: skip
    check = CHECKS["prototype-masks"](
        point("prototype-masks"), Recorded(SPECIMENS["prototype-masks"]), TOLERANCE, weights
    )
    case = Case(np.zeros((40, 40, 3), np.uint8), {}, theirs)
    if error:
        with pytest.raises(error, match="81 pixels"):
            check.compare(ours, case)
    else:
        assert check.compare(ours, case)[2]["masks"] == pytest.approx(off / side**2)


@pytest.mark.parametrize(("weights", "sides", "scores", "error"), [
    ("random", ((0, 0), (0, 0)), (0.7, 0.7), NoSignal), ("random", ((0, 0), (0, 0)), (0.7, 0.6), None),
    ("random", ((0, 0), (0, 20)), (0.7, 0.7), None), ("official", ((0, 0), (0, 0)), (0.7, 0.7), None),
])  # fmt: skip
def test_random_boxes_in_the_padding_that_tie_are_the_seeds_fault(weights, sides, scores, error):
    """Of two places of one colour rounding takes the first. Where scores differ, or there is a picture, it is a fault.
    """
    rows = [[left, 10.0 + 20 * i, right, 40.0 + 20 * i] for i, (left, right) in enumerate(sides)]
    wanted = {"boxes": np.float32(rows), "scores": np.float32(scores), "class_ids": np.int32([0, 0])}
    found = wanted | {"boxes": np.float32([rows[0], [*rows[1][:1], 36, rows[1][2], 66]])}
    check = CHECKS["dense-boxes"](point("dense-boxes"), Recorded(SPECIMENS["dense-boxes"]), TOLERANCE, weights)
    case = Case(np.zeros((80, 40, 3), np.uint8), {}, wanted)
    if error:
        with pytest.raises(error, match="2 lie beside the picture"):
            check.compare(found, case)
    else:
        assert check.compare(found, case)[2]["pixels"] == pytest.approx(6)
    assert check.compare(wanted, case) == (2, 0, {"pixels": 0, "scores": 0})
