"""Places in a picture as models write them into their text: boxes, polygons and points with what they are of.

A *convention* is how a family writes them. Each is a module of its own with a function
``read(text, width, height) -> list[Grounded]``; a published model names the one it was trained on (the option
``grounding`` of its chat entry point), and the scale of its numbers follows from that alone, never from their size.
"""

from __future__ import annotations

from importlib import import_module

from tritonvision.errors import InvalidParameter
from tritonvision.grounding import schema
from tritonvision.grounding.grounded import Grounded
from tritonvision.grounding.reply import Reply, split

CONVENTIONS = ("florence", "internvl", "moondream", "paligemma", "qwen2_5", "qwen3", schema.NAME)
_LONGEST = 1 << 20  # characters of a text that are read: more than any context holds

__all__ = ["CONVENTIONS", "Grounded", "Reply", "caption", "parse", "split"]


def parse(convention: str, text: str, width: int, height: int) -> list[Grounded]:
    """What ``text`` says of places, in its order; empty where it says nothing of any. Never fails on a text.

    What is written in the schema of :mod:`tritonvision.grounding.schema` is read as that in every convention, because
    its keys are unmistakable: a model writes it where a prompt asked for it.

    Args:
        convention: one of :data:`CONVENTIONS`, or empty where the model has none: only the schema is looked for.
        text: an answer without its thinking (:func:`split`); what special tokens stand for must still be in it.
        width, height: of the picture that the network read, in pixels. Only conventions in pixels divide by them.

    Raises:
        InvalidParameter: there is no such convention.
    """
    text = text[:_LONGEST]
    if convention and convention not in CONVENTIONS:
        raise InvalidParameter(
            f"There is no grounding convention '{convention}'.", hint=f"There are: {', '.join(CONVENTIONS)}."
        )
    if not convention or convention == schema.NAME or schema.is_in(text):
        return schema.read(text, width, height)
    return import_module(f"tritonvision.grounding.{convention}").read(text, width, height)


def caption(text: str, found: list[Grounded]) -> str:
    """An answer for people to read: its sentence, or its text with phrases in place of their tags and numbers.

    Where the whole text is a list for machines, the phrases joined by commas: never empty where something was found.
    """
    told = schema.sentence(text)
    if told:
        return told
    pieces, end = [], 0
    spans = sorted((place.start_end, place.phrase) for place in found if place.start_end is not None)
    for (start, stop), phrase in spans:
        if start >= end:
            pieces += [text[end:start], phrase]
            end = stop
    said = " ".join("".join([*pieces, text[end:]]).split()) if spans or not found else ""
    return said or ", ".join(dict.fromkeys(place.phrase for place in found if place.phrase))
