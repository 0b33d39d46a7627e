"""The catalogue: every model id, its aliases, task and licence, and the one lookup all dialects share."""

from __future__ import annotations

import difflib
import functools
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources

from tritonvision.errors import UnknownModel

_SEGMENT = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_ID = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT}){{0,2}}")
_LONGEST_ID = 120
_SIMILAR = 0.8  # difflib's ratio from which on a name counts as a misspelling: one wrong letter of five
_LEAST_BEGINNING = 3


@dataclass(frozen=True)
class Entry:
    """One model id of the catalogue.

    Attributes:
        input_size: (height, width) of the network, or None when it is not fixed.
        license: of the weights, in their owner's words.
        upstream_exists: True, False (no such checkpoint was released) or ``"unsure"``.
        params_m: millions of parameters, rounded, or None.
        terms: why the licence has to be accepted before the released weights are used, see
            :mod:`tritonvision.licenses`: ``non-commercial``, ``research``, ``gated``; empty where it has not.
        aliases: other names it answers to: ``project/version`` names, one at least where the id has one segment, and
            the hub ids of the checkpoint that an export takes.
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
    terms: str = ""

    @property
    def fixed_size(self) -> tuple[int, int]:
        """``input_size``, of a model that has one."""
        assert self.input_size is not None, f"{self.id} takes pictures of any size"
        return self.input_size

    @property
    def wire_id(self) -> str:
        """The name with two segments by which legacy routes and Roboflow's client reach this model."""
        return next(name for name in (self.id, *self.aliases) if name.count("/") == 1)


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
            terms=m.get("terms", ""),
        )
        for m in data["models"]
    }  # fmt: skip


@functools.cache
def _aliases() -> dict[str, str]:
    return {alias: entry.id for entry in entries().values() for alias in entry.aliases}


def canonical(name: str) -> str:
    """The catalogue id that ``name`` means, or ``name`` itself when the catalogue does not know it."""
    return name if name in entries() else _aliases().get(name, name)


def names_of(model_id: str) -> tuple[str, ...]:
    """Every public name of a model: its id and its aliases."""
    entry = entries().get(model_id)
    return (model_id,) if entry is None else (entry.id, *entry.aliases)


def find(name: str) -> Entry:
    """The catalogue entry for an id or alias. Raises UnknownModel."""
    entry = entries().get(canonical(name))
    if entry is None:
        raise unknown(name)
    return entry


def unknown(name: str, published: Iterable[str] = ()) -> UnknownModel:
    """The error for a name that nobody has, with the names that it may have been meant for.

    Args:
        published: ids to choose from besides the catalogue's names.
    """
    near = {canonical(found): found for found in reversed(similar(name, (*published, *entries(), *_aliases())))}
    lead = f"Did you mean {' or '.join(map(repr, reversed(near.values())))}? " if near else ""
    hint = f"{lead}'tritonvision models' and GET /models list every id and its aliases."
    return UnknownModel(f"No model is called '{name[:80]}'.", hint=hint)


def similar(name: str, names: Iterable[str], most: int = 3) -> list[str]:
    """Those of ``names`` that ``name`` is a misspelling or the beginning of, best first; letter case does not count.

    A vendor before a slash may be wrong or missing: last segments are compared, too.
    """
    wanted = name[:_LONGEST_ID].lower()
    spelt: dict[str, str] = {}
    for known in names:
        spelt.setdefault(known.lower(), known)
    for known in list(spelt.values()):
        spelt.setdefault(_last_segment(known.lower()), known)
    if wanted in spelt:
        return [spelt[wanted]]
    near = difflib.get_close_matches(wanted, spelt, most, _SIMILAR)
    near += difflib.get_close_matches(_last_segment(wanted), spelt, most, _SIMILAR)
    if not near and len(wanted) >= _LEAST_BEGINNING:
        near = [known for known in spelt if known.startswith(wanted)]
    return list(dict.fromkeys(spelt[known] for known in near))[:most]


def _last_segment(name: str) -> str:
    """What stands after the last slash, or the whole ``name`` where that only tells a version or a size."""
    last = name.rpartition("/")[2]
    return name if last.isdigit() or len(last) < _LEAST_BEGINNING else last


def check_id(name: str) -> str:
    """``name`` when it can be a model id: one to three segments of letters, digits, ``. _ -``. Raises UnknownModel.

    ``--`` and ``__`` are kept free: Triton names of steps and of ids with slashes are built from them.
    """
    if len(name) > _LONGEST_ID or not _ID.fullmatch(name) or "--" in name or "__" in name:
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
