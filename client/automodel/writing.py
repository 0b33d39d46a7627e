"""What a model that writes is asked about one picture, and its answer: the text, or the places that it names."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from tritonvision import tasks
from tritonvision.client.automodel import keywords
from tritonvision.client.automodel.servers import Servers
from tritonvision.client.connections import Connection
from tritonvision.engine.facts import Facts
from tritonvision.errors import InvalidParameter, NotSupported
from tritonvision.grounding import Grounded
from tritonvision.results import Delta


@dataclass(frozen=True)
class Asked:
    """One question, the same for every picture.

    Attributes:
        messages: see :func:`tritonvision.tasks.about_picture`.
        settings: every one of :data:`tritonvision.tasks.VLM`.
    """

    messages: list[dict[str, Any]]
    settings: dict[str, Any]


def question(facts: Facts, prompt: Any, given: Mapping[str, Any]) -> Asked:
    """The question of a prompt and the keywords of its caller.

    Raises:
        InvalidParameter: the prompt is no text, or a keyword is unknown.
        NotSupported: the model does not write.
    """
    if facts.task != tasks.VLM.name:
        raise NotSupported(f"'{facts.id}' does {facts.task}; it cannot be asked in words.")
    if not isinstance(prompt, str) or not prompt.strip():
        raise InvalidParameter("'prompt' must be a text.")
    settings = dict(given)
    if settings.pop("do_sample", None) is False:
        settings["temperature"] = 0.0
    messages = tasks.about_picture(prompt, settings.pop("detail", None))
    return Asked(messages, keywords.settings_for(facts, settings))


def pieces(servers: Servers, connection: Connection, facts: Facts, asked: Asked, picture: bytes) -> Iterator[str]:
    """The text of an answer, piece by piece. Closing the iterator cancels it."""
    with closing(_deltas(servers, connection, facts, asked, picture)) as said:
        yield from (delta.text for delta in said if delta.text)


def places(servers: Servers, connection: Connection, facts: Facts, asked: Asked, picture: bytes) -> list[Grounded]:
    """The places that an answer names. Raises NotSupported for a model that writes none."""
    if not facts.grounding:
        raise NotSupported(f"'{facts.id}' writes no places into its answers.")
    *_, last = _deltas(servers, connection, facts, asked, picture)
    return [*(last.places or ())]


def _deltas(
    servers: Servers, connection: Connection, facts: Facts, asked: Asked, picture: bytes
) -> Generator[Delta, None, None]:  # fmt: skip
    said = servers.iterate(connection, lambda there: there.chat(facts, asked.messages, [picture], asked.settings))
    with closing(said):
        yield from said
