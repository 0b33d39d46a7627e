"""The catalogue: every model id, its aliases, task and licence, and the one lookup all dialects share."""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass
from importlib import resources

from tritonvision.errors import UnknownModel

_SEGMENT = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_ID = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT}){{0,2}}")


@dataclass(frozen=True)
class Entry:
    """One model id of the catalogue.

    Attributes:
        input_size: (height, width) of the network, or None when it is not fixed.
        license: of the weights, in their owner's words.
        upstream_exists: True, False (no such checkpoint was released) or ``"unsure"``.
        params_m: millions of parameters, rounded, or None.
        aliases: other names it answers to, ``project/version`` names among them.
    """

    id: str
    family: str
    task: str
    input_size: tuple[int, int] | None
    weights_source: str
    license: str
    upstream_exists: bool | str
    params_m: float | None
    aliases: tuple[str, ...]

    @property
    def wire_id(self) -> str:
        """The name with two segments by which legacy routes and Roboflow's client reach this model."""
        own = self.id if "/" in self.id else f"pretrained/{self.id}"
        return next((alias for alias in self.aliases if alias.count("/") == 1), own)


@functools.cache
def entries() -> dict[str, Entry]:
    """Every entry by its id, in catalogue order."""
    data = json.loads(resources.files("tritonvision.data").joinpath("catalogue.json").read_text(encoding="utf-8"))
    return {
        m["id"]: Entry(
            id=m["id"], family=m["family"], task=m["task"],
            input_size=tuple(m["input_size"]) if m["input_size"] else None,
            weights_source=m["weights_source"], license=m["upstream_license"],
            upstream_exists=m["upstream_exists"], params_m=m["params_m"], aliases=tuple(m["aliases"]),
        )
        for m in data["models"]
    }  # fmt: skip


@functools.cache
def _aliases() -> dict[str, str]:
    names = {alias: entry.id for entry in entries().values() for alias in entry.aliases}
    return names | {entry.wire_id: entry.id for entry in entries().values()}


def canonical(name: str) -> str:
    """The catalogue id that ``name`` means, or ``name`` itself when the catalogue does not know it."""
    return name if name in entries() else _aliases().get(name, name)


def names_of(model_id: str) -> tuple[str, ...]:
    """Every public name of a model: its id, its aliases and its two-segment name."""
    entry = entries().get(model_id)
    return (model_id,) if entry is None else tuple(dict.fromkeys((entry.id, *entry.aliases, entry.wire_id)))


def find(name: str) -> Entry:
    """The catalogue entry for an id or alias. Raises UnknownModel."""
    entry = entries().get(canonical(name))
    if entry is None:
        raise UnknownModel(
            f"No model is called '{name[:80]}'.", hint="'tritonvision models' lists every id and its aliases."
        )
    return entry


def check_id(name: str) -> str:
    """``name`` when it can be a model id: one to three segments of letters, digits, ``. _ -``. Raises UnknownModel.

    ``--`` and ``__`` are kept free: Triton names of steps and of ids with slashes are built from them.
    """
    if not _ID.fullmatch(name) or "--" in name or "__" in name or len(name) > 120:
        raise UnknownModel(
            f"'{name[:80]}' cannot be a model id.",
            hint="Ids are like 'yolov8n-640', 'coco/3' or 'workspace/project/1'.",
        )
    return name


@functools.lru_cache(maxsize=4096)
def triton_name(model_id: str) -> str:
    """The Triton model name of a public id: ``/`` becomes ``__``. Reversible, see :func:`check_id`."""
    return check_id(model_id).replace("/", "__")


def from_triton_name(name: str) -> str:
    """The public id of a Triton model name; the inverse of :func:`triton_name`."""
    return name.replace("__", "/")
