"""How far the answer of a model, or of one of its stages, is from the one that was recorded of it.

Tensors carry a batch axis first. What is a list of candidates is compared as a set, since rows of nearly equal score
trade places on another processor; everything else element by element.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

Tensors = Mapping[str, np.ndarray]

# Kinds of tensors that belong together.
VALUES = "values"  # element by element
ROWS = "rows"  # detections: each row of either side has a partner on the other
CANDIDATES = "candidates"  # of a network: the best rows, which are looked for among all of the other side
CLASSES = "classes"  # scores of all classes, and the ids of those over a threshold
MAP = "map"  # 16 bits over a range

MISSING = "missing"  # rows without a partner
# Of a reduced precision: how far boxes and scores of partners are apart, how unlike scores of classes are.
APART, DRIFT, UNLIKE = "boxes_apart", "scores_apart", "scores_unlike"
_SHARED = {"prototypes"}  # by all rows
_MATCHED = ("boxes", "scores")

# How far an answer of a reduced precision may be from the fp32 answer on one picture. The precision gate has judged it
# on many; here it is told from a wrong one. Bars lie between what variants in bf16 measure (boxes apart 0.006, scores
# unlike 0.0003, embeddings 0.0004, angles 0.02) and what pictures do whose channels are exchanged or that are half as
# bright (0.13; 0.36 to 0.9; 0.1 to 0.6; over 1); that of boxes is the one by which the gate knows partners.
PRECISION_BARS = {
    "boxes": 0.5, "polygons": 0.5, "scores": 0.1, "class_ids": 0.0, "missing": 0.1, "masks": 0.3, "keypoints": 0.1,
    "map": 0.015, "orientation": 1.0,
    "embeddings": 0.002, "yaw": 0.05, "pitch": 0.05, "token_ids": 0.5, "text": 0.5, "texts": 0.25, "parents": 0.0,
    "usage": 1.0, "finish_reason": 1.0, "image_size": 0.0, "low_res_masks": 0.2, "logits": 0.1, APART: 0.1, DRIFT: 0.05,
    UNLIKE: 0.02,
}  # fmt: skip
# What a variant measured on its golden question, when it was added, it may measure so many times again on a load; of
# figures that another processor may make from nothing, at least so much.
_AGAIN = 3.0
_LEAST = {
    APART: 0.01, DRIFT: 0.01, UNLIKE: 0.001, "embeddings": 0.0005, "map": 0.002, "yaw": 0.01, "pitch": 0.01,
}  # fmt: skip
_PARTNER = 0.5  # IoU from which on two boxes are partners
_SURE = 0.4  # score from which on a detection has to be found by every precision


def differences(kind: str, got: Tensors, want: Tensors, bars: Mapping[str, float]) -> dict[str, float]:
    """The largest difference of each tensor that has a bar; infinite where a tensor is missing or of another shape.

    Numbers differ by their absolute difference, texts by how many of them are others, masks (COCO run lengths) by
    1 - IoU. Of rows there is ``missing`` besides: how many have no partner of their class.

    Args:
        kind: how the tensors belong together, a constant of this module.
        bars: the largest allowed difference of each, by name. Partners of rows are weighed in these units.
    """
    if kind in (ROWS, CANDIDATES):
        return _of_rows(got, want, bars, both=kind == ROWS)
    found = {name: _largest(name, got, want) for name in want if name in bars}
    if kind == CLASSES and "class_ids" in found:
        found["class_ids"] = _other_classes(got, want, bars["scores"])
    if kind == MAP and "map" in found:
        found["map"] = _number(_meters(got), _meters(want)) if "range" in got else np.inf
        found.pop("range", None)
    return found


def agreement(kind: str, got: Tensors, want: Tensors) -> dict[str, float]:
    """As :func:`differences`, of an answer of a reduced precision, in the units of :data:`PRECISION_BARS`.

    Of detections that score over 0.4, or over half of the best score, the share that has no partner of its class whose
    IoU is 0.5, and of the others the mean 1 - IoU and the mean difference of scores; of classes, whether the best is
    another, and 1 - the correlation of all scores; of embeddings, 1 - cosine; of maps, the mean relative difference; of
    other scores, their mean difference; of texts and tokens, the share that differs.
    """
    if kind == ROWS:
        return _sure_rows(got, want)
    if kind == CLASSES:
        return {"class_ids": _loss_of_the_best(got, want), UNLIKE: _unlike(got["scores"], want["scores"])}
    found = {}
    for name in want:
        if name not in PRECISION_BARS or name == "range":
            continue
        found[name] = _relative(name, got, want)
    return found


def precision_bars(measured: Mapping[str, float]) -> dict[str, float]:
    """The bars of :func:`agreement` for a variant: :data:`PRECISION_BARS`, or narrower ones.

    Args:
        measured: figures of :func:`agreement` when the variant was added, by name; empty where they are not known.
    """
    narrower = {
        name: min(PRECISION_BARS[name], max(_AGAIN * measured[name], least))
        for name, least in _LEAST.items()
        if name in measured
    }
    return PRECISION_BARS | narrower


def within(found: Mapping[str, float], bars: Mapping[str, float]) -> bool:
    """Whether all figures are within their bars; no number is not."""
    return all(value <= bars[name] for name, value in found.items())


def _largest(name: str, got: Tensors, want: Tensors) -> float:
    if name not in got or got[name].shape != want[name].shape:
        return np.inf
    if name == "masks":
        sizes = want["image_size"].reshape(-1, 2)
        return _of_masks(got[name].reshape(-1), want[name].reshape(-1), sizes[0])
    return _number(got[name], want[name])


def _number(got: np.ndarray, want: np.ndarray) -> float:
    """The largest difference of numbers, NaN when any is; how many texts are others."""
    if got.shape != want.shape:
        return np.inf
    if want.dtype.kind in "OS":
        return float(np.count_nonzero(got.astype(object) != want.astype(object)))
    return float(np.abs(got.astype(np.float64) - want.astype(np.float64)).max(initial=0))


def _meters(tensors: Tensors) -> np.ndarray:
    """The values of a map of 16 bits over its range, in the map's own unit."""
    low, high = (float(value) for value in tensors["range"].reshape(-1))
    return low + tensors["map"].astype(np.float64) * ((high - low) / 65535)


def _of_rows(got: Tensors, want: Tensors, bars: Mapping[str, float], both: bool) -> dict[str, float]:
    found = {name: _largest(name, got, want) for name in want if name in bars and name in _SHARED | {"image_size"}}
    rows = [name for name in want if name in bars and name not in found]
    found |= dict.fromkeys(rows, 0.0) | {MISSING: 0.0}
    if any(name not in got for name in rows):
        return found | {name: np.inf for name in rows if name not in got}
    ours, theirs = ({name: side[name][0] for name in rows} for side in (got, want))
    size = want["image_size"].reshape(-1) if "image_size" in want else None
    if not all(np.isfinite(side[name]).all() for side in (ours, theirs) for name in _MATCHED):
        return found | {name: np.nan for name in _MATCHED}
    for some, others in ((theirs, ours), (ours, theirs))[: 2 if both else 1]:
        partner = _partners(some, others, bars)
        # the last of lists that end at the same number may have lost its partner behind the end
        cut = some["scores"] <= others["scores"].min(initial=np.inf) + bars["scores"]
        cut &= not both or len(some["scores"]) == len(others["scores"])
        has = partner >= 0
        found[MISSING] = max(found[MISSING], float(np.count_nonzero(~has & ~cut)))
        compared = np.flatnonzero(has & ~_far_and_cut(some, others, partner, cut, bars))
        for name in (name for name in rows if name != "class_ids" and len(compared)):
            pair = some[name][compared], others[name][partner[compared]]
            difference = _of_masks(*pair, size) if name == "masks" else _number(*pair)
            found[name] = _larger(found[name], difference)
    return found


def _larger(a: float, b: float) -> float:
    return float(np.max([a, b]))  # NaN wins


def _partners(some: Tensors, others: Tensors, bars: Mapping[str, float]) -> np.ndarray:
    """The nearest of ``others`` of the same class, for each of ``some``: int, -1 where there is none."""
    if not len(others["scores"]) or not len(some["scores"]):
        return np.full(len(some["scores"]), -1)
    unlike = some["class_ids"][:, None] != others["class_ids"][None]
    pixels = np.abs(some["boxes"][:, None] - others["boxes"][None]).max(axis=2) / bars["boxes"]
    scores = np.abs(some["scores"][:, None] - others["scores"][None]) / bars["scores"]
    distance = np.where(unlike, np.inf, np.maximum(pixels, scores))
    best = distance.argmin(axis=1)
    return np.where(np.isfinite(distance[np.arange(len(best)), best]), best, -1)


def _far_and_cut(
    some: Tensors, others: Tensors, partner: np.ndarray, cut: np.ndarray, bars: Mapping[str, float]
) -> np.ndarray:
    """Which rows may have lost their partner because the other list ends before it: bool ``[n]``."""
    if not len(others["scores"]):
        return cut
    far = np.abs(some["boxes"] - others["boxes"][partner]).max(axis=1, initial=0) > bars["boxes"]
    return cut & far


def _of_masks(got: np.ndarray, want: np.ndarray, size: np.ndarray | None) -> float:
    """The largest 1 - IoU of masks, row by row; two empty ones are equal."""
    if size is None or len(got) != len(want):
        return np.inf
    from pycocotools import mask

    worst = 0.0
    for pair in zip(got, want, strict=True):
        both = [{"size": [int(v) for v in size], "counts": bytes(counts)} for counts in pair]
        if mask.area(both).any():
            worst = max(worst, 1 - float(mask.iou(both[:1], both[1:], [False])[0, 0]))
    return worst


def _other_classes(got: Tensors, want: Tensors, leeway: float) -> float:
    """How many classes are told on one side only, or in another order; those within ``leeway`` may change places."""
    ours, theirs, scores = got["class_ids"][0], want["class_ids"][0], want["scores"][0]
    if len(ours) != len(theirs):
        return float(abs(len(ours) - len(theirs)))
    known = (ours >= 0) & (ours < len(scores))
    apart = np.abs(scores[np.where(known, ours, 0)] - scores[theirs])
    return float(np.count_nonzero(~known | ((ours != theirs) & (apart > 2 * leeway))))


def _sure_rows(got: Tensors, want: Tensors) -> dict[str, float]:
    ours, theirs = ({name: side[name][0] for name in ("boxes", "scores", "class_ids")} for side in (got, want))
    if not len(theirs["scores"]):
        return {MISSING: 0.0}
    sure = theirs["scores"] >= min(_SURE, float(theirs["scores"].max()) / 2)
    overlap = _ious(theirs["boxes"], ours["boxes"])[sure]
    overlap[theirs["class_ids"][sure, None] != ours["class_ids"][None]] = 0
    best = overlap.max(axis=1, initial=0)
    has = ~(best < _PARTNER)
    if not has.any():
        return {MISSING: 1.0}
    scores = np.abs(ours["scores"][overlap[has].argmax(axis=1)] - theirs["scores"][sure][has])
    return {MISSING: 1 - float(has.mean()), APART: 1 - float(best[has].mean()), DRIFT: float(scores.mean())}


def _unlike(got: np.ndarray, want: np.ndarray) -> float:
    """1 - the correlation of two rows of scores; of fewer than three, the largest difference."""
    if got.shape != want.shape:
        return np.inf
    a, b = (side[0].astype(np.float64) for side in (got, want))
    if a.size < 3:
        return _number(a, b)
    a, b = a - a.mean(), b - b.mean()
    return 1 - float(a @ b) / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-30)


def _ious(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """float ``[n,m]`` of corners ``[n,4]`` and ``[m,4]``."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    inter = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (a, b)]
    return inter / np.maximum(areas[0][:, None] + areas[1][None] - inter, 1e-9)


def _loss_of_the_best(got: Tensors, want: Tensors) -> float:
    if got["scores"].shape != want["scores"].shape or not np.isfinite(got["scores"]).all():
        return np.inf
    scores: np.ndarray = want["scores"][0]
    ids = got["class_ids"][0]
    best = int(ids[0]) if len(ids) else int(got["scores"][0].argmax())
    if not 0 <= best < len(scores):
        return np.inf
    # of nearly equal scores, as random weights have them, either may be the best
    near = scores.max() - scores[best] <= 2 * float(np.abs(got["scores"][0] - scores).max())
    alike = np.corrcoef(got["scores"][0], scores)[0, 1] > 0.99 if len(scores) > 2 else True
    return 0.0 if best == int(scores.argmax()) or (near and alike) else 1.0


def _relative(name: str, got: Tensors, want: Tensors) -> float:
    if name not in got:
        return np.inf
    ours, theirs = got[name], want[name]
    if name == "embeddings":
        a, b = ours.reshape(-1).astype(np.float64), theirs.reshape(-1).astype(np.float64)
        lengths = float(np.linalg.norm(a)) * float(np.linalg.norm(b))
        return 1 - float(a @ b) / max(lengths, 1e-30) if a.shape == b.shape else np.inf
    if name == "map":
        a, b = _meters(got), _meters(want)
        return float(np.abs(a - b).mean() / max(np.abs(b).mean(), 1e-30)) if a.shape == b.shape else np.inf
    if name in ("text", "texts", "token_ids"):
        return _share_of_others(ours, theirs)
    if name in ("boxes", "keypoints", "low_res_masks", "logits") and ours.shape == theirs.shape:
        return _number(ours, theirs) / max(float(np.abs(theirs).max(initial=0)), 1e-30)
    if name == "scores" and ours.shape == theirs.shape and ours.size:
        return float(np.abs(ours.astype(np.float64) - theirs).mean())  # one word of a page hangs on one doubtful letter
    return _largest(name, got, want)


def _share_of_others(got: np.ndarray, want: np.ndarray) -> float:
    ours, theirs = (
        [word for text in side.reshape(-1) for word in bytes(text).split()] if side.dtype.kind in "OS"
        else side.reshape(-1).tolist()
        for side in (got, want)
    )  # fmt: skip
    longest = max(len(ours), len(theirs))
    return 1 - sum(a == b for a, b in zip(ours, theirs, strict=False)) / longest if longest else 0.0
