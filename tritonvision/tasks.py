"""The task contracts: what a task is called in each dialect, which settings a request may carry, what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tritonvision.errors import InvalidParameter


@dataclass(frozen=True)
class Parameter:
    """One per-request setting, as it travels in the JSON of the ``parameters`` input.

    Attributes:
        kind: ``float``, ``int``, ``bool``, ``ids`` (list of class ids) or ``choice``.
        default: value when absent; ``None`` means "off".
        low, high: inclusive bounds of numbers.
    """

    name: str
    kind: str
    default: Any
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    def check(self, value: Any) -> Any:
        """``value`` in its own type; None is the default. Raises InvalidParameter."""
        if value is None:
            return self.default
        if self.kind == "bool" and isinstance(value, bool):
            return value
        if self.kind in ("float", "int") and isinstance(value, int | float) and not isinstance(value, bool):
            if not (self.low is None or value >= self.low) or not (self.high is None or value <= self.high):
                raise InvalidParameter(f"'{self.name}' must lie between {self.low:g} and {self.high:g}, not {value!r}.")
            if self.kind == "float":
                return float(value)
            if value == int(value):
                return int(value)
        if self.kind == "ids" and isinstance(value, list) and all(type(v) is int and v >= 0 for v in value):
            return value
        if self.kind == "choice" and value in self.choices:
            return value
        expected = {
            "bool": "true or false", "float": "a number", "int": "a whole number", "ids": "a list of class ids",
            "choice": " or ".join(self.choices),
        }[self.kind]  # fmt: skip
        raise InvalidParameter(f"'{self.name}' must be {expected}.")


AUTO_ORIENT = Parameter("auto_orient", "bool", True)
CONFIDENCE = Parameter("confidence", "float", 0.4, 0.0, 1.0)
DETECTION = (
    CONFIDENCE,
    Parameter("iou_threshold", "float", 0.3, 0.0, 1.0),
    Parameter("max_detections", "int", 300, 1, 10_000),
    Parameter("max_candidates", "int", 3000, 1, 30_000),
    Parameter("classes", "ids", None),
    Parameter("class_agnostic_nms", "bool", False),
)


@dataclass(frozen=True)
class Task:
    """One kind of question a picture can be asked.

    Attributes:
        name: as the catalogue and the Roboflow registry spell it.
        parameters: the settings its public models accept.
    """

    name: str
    parameters: tuple[Parameter, ...]


OBJECT_DETECTION = Task("object-detection", (AUTO_ORIENT, *DETECTION))
KEYPOINT_DETECTION = Task("keypoint-detection", (AUTO_ORIENT, *DETECTION))
CLASSIFICATION = Task(
    "classification",
    (AUTO_ORIENT, CONFIDENCE, Parameter("function", "choice", None, choices=("softmax", "sigmoid", "none"))),
)

TASKS: dict[str, Task] = {task.name: task for task in (OBJECT_DETECTION, KEYPOINT_DETECTION, CLASSIFICATION)}


def resolve(parameters: tuple[Parameter, ...], given: Mapping[str, Any]) -> dict[str, Any]:
    """All of ``parameters`` with ``given`` laid over the defaults. Raises InvalidParameter for an unknown name."""
    known = {p.name: p for p in parameters}
    for name in given:
        if name not in known:
            raise InvalidParameter(
                f"Unknown parameter '{str(name)[:40]}'.", hint=f"Known are: {', '.join(sorted(known))}."
            )
    return {name: p.check(given.get(name)) for name, p in known.items()}
