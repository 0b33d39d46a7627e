"""How families that write places are asked for things by their names, and which of these an answer's places are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from tritonvision.grounding.grounded import Grounded

_JSON = 'Locate every {}. Answer in JSON, a list of {{"bbox_2d": [x1, y1, x2, y2], "label": "..."}}.'
# By convention: one prompt for all names, with what stands between them; or one for each.
_TOGETHER: Mapping[str, tuple[str, str]] = {
    "qwen2_5": (_JSON, ", "), "qwen3": (_JSON, ", "), "paligemma": ("detect {}", " ; "),
    "internvl": ("Locate every {}. Write each of them as <ref>name</ref><box>[[x1, y1, x2, y2]]</box>.", ", "),
}  # fmt: skip
_ONE_BY_ONE = {"moondream": "detect: {}", "florence": "<OPEN_VOCABULARY_DETECTION>{}"}


def prompts(convention: str, names: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
    """What to ask, and the names that each prompt asks for; none of a convention whose families cannot be asked so."""
    if convention in _TOGETHER:
        form, between = _TOGETHER[convention]
        return [(form.format(between.join(names)), tuple(names))]
    if convention in _ONE_BY_ONE:
        return [(_ONE_BY_ONE[convention].format(name), (name,)) for name in names]
    return []


def named(found: Iterable[Grounded], names: Sequence[str]) -> list[Grounded]:
    """The places of an answer under the names that were asked for; what is none of them is left out.

    Letters count alike in either case. The places of an answer to one name are that name's, whatever it calls them.
    """
    known = {name.strip().casefold(): name for name in names}
    only = names[0] if len(names) == 1 else None
    told = ((place, only or known.get(place.phrase.strip().casefold())) for place in found)
    return [replace(place, phrase=name) for place, name in told if name is not None]
