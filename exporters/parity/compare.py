"""The differences of two answers: tensors element by element, results of a TopK or an NMS as unordered sets."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from tritonvision.ensembles.schemas import DENSE_BOXES, PROTOTYPE_MASKS, QUERY_BOXES

_CHUNK = 256  # rows compared at once: 256 x 8400 candidates are 34 MB a coordinate
_CLASS_FLOOR = 1e-3  # below this score, far under any threshold, the best class may differ
# Heads whose candidates come from a TopK, and the tensors that all candidates of a picture share.
_AS_SETS = {DENSE_BOXES.name, QUERY_BOXES.name, PROTOTYPE_MASKS.name, "text-guided-boxes"}
_SHARED = {"prototypes"}
_COMPARED = ("boxes", "scores", "class_ids")  # the tensors by which partners are matched

Tensors = Mapping[str, np.ndarray]


def tensor_differences(
    head: str, got: Tensors, want: Tensors, tolerance: Mapping[str, float], relative: Collection[str] = ()
) -> dict[str, float]:
    """Largest difference of each tensor over a batch; infinite where shapes do not fit.

    Args:
        head: kind of the head. Candidates that went through a TopK are compared as sets, see
            :func:`candidate_differences`; everything else element by element.
        relative: names whose difference is divided by the largest value of ``want``.
    """
    found = {name: largest(got[name], want[name]) for name in want}
    if head in _AS_SETS and "scores" in want:  # a composition may have other networks besides
        ranked = [name for name in want if name not in _SHARED]
        samples = [
            candidate_differences({n: got[n][i] for n in ranked}, {n: want[n][i] for n in ranked}, tolerance)
            for i in range(len(want["scores"]))
        ]
        found |= {name: max((s[name] for s in samples), key=_nan_first) for name in samples[0]}
    for name in found:
        if name in relative:
            found[name] /= max(float(np.abs(want[name]).max(initial=0)), 1e-30)
    return found


def _nan_first(value: float) -> tuple[bool, float]:
    return np.isnan(value), value


def largest(got: np.ndarray, want: np.ndarray) -> float:
    """NaN when any difference is; two empty arrays do not differ."""
    if got.shape != want.shape:
        return float("inf")
    return float(np.abs(got.astype(np.float64) - want.astype(np.float64)).max(initial=0))


def candidate_differences(got: Tensors, want: Tensors, tolerance: Mapping[str, float]) -> dict[str, float]:
    """Largest difference of two sets of candidates, ``boxes [K,4]``, ``scores [K]``, ``class_ids [K]`` and what else
    each of them has.

    Each row is compared with its partner on the other side, see :func:`_partners`, so rows of equal score may trade
    places. A row whose score is no higher than the lowest of the other side may have been cut off there, and needs no
    partner.

    Args:
        tolerance: the scales by which pixels and scores are weighed against each other.

    Returns:
        ``boxes``, ``scores`` and ``class_ids``, the latter 1 where a row's partner has another class.
    """
    if not all(np.isfinite(side[name]).all() for side in (got, want) for name in ("boxes", "scores")):
        return dict.fromkeys(want, float("nan"))
    worst = dict.fromkeys(want, 0.0)
    for rows, others in ((got, want), (want, got)):
        if not len(others["scores"]):
            return dict.fromkeys(worst, float("inf") if len(rows["scores"]) else 0.0)
        partner, needed, other_class = _partners(rows, others, tolerance)
        for name in worst:
            if name == "class_ids":
                difference = float(other_class[needed].any())
            else:
                difference = largest(rows[name][needed], others[name][partner][needed])
            worst[name] = max(worst[name], difference, key=_nan_first)
    return worst


def class_difference(head: str, got: Tensors, want: Tensors, exact: Tensors, tolerance: Mapping[str, float]) -> float:
    """1 where a class of ``got`` is one that the reference gives in neither precision, else 0.

    Where two classes nearly tie, either is accepted. The tie must show in the reference: only where it has two classes,
    one in float32 (``want``) and another in float64 (``exact``), may the graph have either. A class of ``want`` that
    ``exact`` confirms must be in ``got``.
    """
    if head not in _AS_SETS:
        got_ids, want_ids, exact_ids = (side["class_ids"] for side in (got, want, exact))
        if not got_ids.shape == want_ids.shape == exact_ids.shape:
            return float("inf")
        return float(((got_ids != want_ids) & (got_ids != exact_ids)).any())
    for sample in range(len(want["scores"])):
        ours, theirs, double = ({n: side[n][sample] for n in _COMPARED} for side in (got, want, exact))
        if not all(len(side["scores"]) for side in (ours, theirs, double)):
            return float("inf")
        invented = _unlike(ours, theirs, tolerance) & _unlike(ours, double, tolerance)
        lost = _unlike(theirs, ours, tolerance) & ~_unlike(theirs, double, tolerance)
        if invented.any() or lost.any():
            return 1.0
    return 0.0


def _unlike(rows: Tensors, others: Tensors, tolerance: Mapping[str, float]) -> np.ndarray:
    """Which of ``rows`` have a partner of another class: bool ``[n]``."""
    _, needed, other_class = _partners(rows, others, tolerance)
    return needed & other_class


def _partners(rows: Tensors, others: Tensors, tolerance: Mapping[str, float]) -> tuple[np.ndarray, ...]:
    """The row of ``others`` that each of ``rows`` is compared with.

    The distance of two rows is the largest difference of their coordinates or of their scores, each in units of its
    tolerance. With tolerances of 0.001 px and 0.00001, a box 0.0005 px away whose score differs by 0.000002 is at a
    distance of max(0.5, 0.2) = 0.5.
    The partner is the nearest row of the same class, if it is at most 1 away. If none is, it is the nearest row of any
    class, whose differences then tell what is wrong: a shifted box, or the right box under another class.

    Returns:
        Index of the partner, int ``[n]``. Whether there must be one, bool ``[n]``: not where the score is no higher
        than the lowest of ``others``, unless one is within 1 all the same. Whether its class is another, bool ``[n]``.
    """
    count = len(rows["scores"])
    partner, needed, other_class = np.zeros(count, int), np.ones(count, bool), np.zeros(count, bool)
    near = _in_reach(rows, others, tolerance)
    partner[near >= 0] = near[near >= 0]
    far = np.flatnonzero(near < 0)
    for start in range(0, len(far), _CHUNK):
        some = far[start : start + _CHUNK]
        found = _partners_of_some({name: rows[name][some] for name in _COMPARED}, others, tolerance)
        partner[some], needed[some], other_class[some] = found
    return partner, needed, other_class


def _in_reach(rows: Tensors, others: Tensors, tolerance: Mapping[str, float]) -> np.ndarray:
    """The nearest row of the same class that is at most 1 away, int ``[n]``; -1 where none is.

    Scores that are farther apart than their tolerance are out of reach, so each row is compared with few others.
    """
    order, ranked = (np.argsort(side["scores"], kind="stable") for side in (rows, others))
    scores, reach = others["scores"][ranked].astype(np.float64), 2 * tolerance["scores"]  # twice: for rounding
    found = np.full(len(order), -1)
    for start in range(0, len(order), _CHUNK):
        some = order[start : start + _CHUNK]
        lowest, highest = (float(rows["scores"][some[at]]) for at in (0, -1))
        those = ranked[np.searchsorted(scores, lowest - reach) : np.searchsorted(scores, highest + reach, "right")]
        if len(those):
            ours, theirs = ({n: side[n][part] for n in _COMPARED} for side, part in ((rows, some), (others, those)))
            distance, other_class = _distances(ours, theirs, tolerance)
            distance[other_class] = np.inf
            nearest = distance.argmin(axis=1)
            found[some] = np.where(distance.min(axis=1) <= 1, those[nearest], -1)
    return found


def _distances(rows: Tensors, others: Tensors, tolerance: Mapping[str, float]) -> tuple[np.ndarray, np.ndarray]:
    """Of every row to every other, see :func:`_partners`, and whether their classes differ: ``[n,m]`` each."""
    pixels = np.abs(rows["boxes"][:, None] - others["boxes"][None]).max(axis=2)
    scores = np.abs(rows["scores"][:, None] - others["scores"][None])
    other_class = (rows["class_ids"][:, None] != others["class_ids"][None]) & (rows["scores"][:, None] >= _CLASS_FLOOR)
    return np.maximum(pixels / tolerance["boxes"], scores / tolerance["scores"]), other_class


def _partners_of_some(rows: Tensors, others: Tensors, tolerance: Mapping[str, float]) -> tuple[np.ndarray, ...]:
    """:func:`_partners` with every row against every other: ``[n,m]`` matrices."""
    distance, other_class = _distances(rows, others, tolerance)
    index = np.arange(len(distance))
    in_class = np.where(other_class, np.inf, distance)
    partner = in_class.argmin(axis=1)
    too_far = in_class[index, partner] > 1
    partner[too_far] = distance[too_far].argmin(axis=1)
    above_the_cut = rows["scores"] > others["scores"].min() + tolerance["scores"]
    return partner, above_the_cut | (distance[index, partner] <= 1), other_class[index, partner]


def detections(
    got: Tensors, want: Tensors, confidence: float, scores_within: float, most: int, pixels_within: float = np.inf
) -> tuple[int, dict[str, float]]:
    """Compare two sets of detections: ``boxes``, ``scores``, ``class_ids`` and, where there are any, ``keypoints`` and
    ``masks`` (COCO run lengths).

    Partners are the nearest of one class, each taken once. What lies on the threshold to within ``scores_within`` may
    be missing on either side; so may the last of a list that ``most`` cut off: two of these that are farther apart than
    ``pixels_within`` are not partners, but each other's replacement.

    Returns:
        How many have no partner, and the largest differences: ``pixels``, ``scores``, ``masks`` (1 - IoU).
    """
    missing, worst = 0, {"pixels": 0.0, "scores": 0.0} | ({"masks": 0.0} if "masks" in want else {})
    free = list(range(len(got["scores"])))
    for row in range(len(want["scores"])):
        partners = [i for i in free if got["class_ids"][i] == want["class_ids"][row]]
        distances = [float(np.abs(got["boxes"][i] - want["boxes"][row]).max()) for i in partners]
        # partners overlap; boxes that do not are different objects
        reach = float((want["boxes"][row, 2:] - want["boxes"][row, :2]).max())
        if not distances or not min(distances) <= reach:
            missing += not _on_the_edge(want, row, confidence, scores_within, most)
            continue
        best = partners[int(np.argmin(distances))]
        edge = confidence, scores_within, most
        if min(distances) > pixels_within and _on_the_edge(want, row, *edge) and _on_the_edge(got, best, *edge):
            continue
        free.remove(best)
        found = {"pixels": min(distances), "scores": abs(float(got["scores"][best]) - float(want["scores"][row]))}
        if "keypoints" in want:
            points = largest(got["keypoints"][best], want["keypoints"][row])
            found["pixels"] = max(found["pixels"], points, key=_nan_first)
        if "masks" in want:
            found["masks"] = mask_difference(got["masks"][best], want["masks"][row], want["image_size"])
        for name, value in found.items():
            worst[name] = max(worst[name], value, key=_nan_first)
    missing += sum(not _on_the_edge(got, i, confidence, scores_within, most) for i in free)
    return missing, worst


def mask_difference(got: bytes, want: bytes, size: np.ndarray) -> float:
    """1 - IoU of two masks, COCO run lengths of a picture of ``size`` (height, width); two empty ones are equal."""
    from pycocotools import mask

    pair = [{"size": [int(v) for v in size], "counts": counts} for counts in (got, want)]
    if not mask.area(pair).any():
        return 0.0
    return 1 - float(mask.iou(pair[:1], pair[1:], [False])[0, 0])


def _on_the_edge(side: Tensors, row: int, confidence: float, within: float, most: int) -> bool:
    score = side["scores"][row]
    cut = len(side["scores"]) >= most and score <= side["scores"].min() + within
    return bool(abs(score - confidence) <= within or cut)
