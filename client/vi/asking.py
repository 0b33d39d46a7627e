"""Questions about pictures sent, and their answers read, several under way at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass

from tritonvision.client.connections import Connection
from tritonvision.client.vi import sources
from tritonvision.engine.facts import Facts
from tritonvision.errors import InvalidParameter, TritonVisionError
from tritonvision.pictures import shown_size
from tritonvision.results import Delta
from tritonvision.settings import Settings
from tritonvision.vi import answers, errors
from tritonvision.vi.questions import Question

_AT_ONCE = 8  # a model writes that many answers together for little more time than one


@dataclass(frozen=True)
class Asked:
    """A question about one picture.

    Attributes:
        place: of the picture among those of the call.
        source: one of :attr:`tritonvision.client.vi.sources.Sources.listed`.
    """

    place: int
    source: str
    question: Question


Outcome = answers.Result | errors.ViError


async def outcomes(
    connection: Connection, facts: Facts, asked: Sequence[Asked], settings: Settings
) -> AsyncGenerator[tuple[int, Outcome], None]:
    """The place and the answer of each question, or why there is none, as they come. Closing it cancels the rest."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(each: Asked) -> tuple[int, Outcome]:
        async with gate:
            try:
                return each.place, await _answer(connection, facts, each, settings)
            except TritonVisionError as error:
                return each.place, errors.of(error)

    running = [asyncio.ensure_future(one(each)) for each in asked]
    try:
        for done in asyncio.as_completed(running):
            yield await done
    finally:
        for task in running:
            task.cancel()


async def pieces(
    connection: Connection, facts: Facts, asked: Asked, settings: Settings
) -> AsyncGenerator[tuple[Delta, tuple[int, int]], None]:
    """Each piece of one answer, with (height, width) of its picture. Raises the errors of the package."""
    picture = await asyncio.to_thread(sources.read, asked.source, settings)
    width, height = shown_size(picture)
    written = connection.chat(facts, asked.question.messages, [picture], asked.question.settings)
    async with aclosing(written):
        async for piece in written:
            yield piece, (height, width)


def result(facts: Facts, question: Question, said: Sequence[Delta], size: tuple[int, int]) -> answers.Result:
    """The result of all pieces of an answer."""
    last = said[-1]
    text = "".join(piece.text for piece in said)
    return answers.answer(
        question, text, size, facts.grounding, facts.grounding_pixels, last.usage, last.finish_reason
    )


async def _answer(connection: Connection, facts: Facts, asked: Asked, settings: Settings) -> answers.Result:
    async with aclosing(pieces(connection, facts, asked, settings)) as written:
        whole = [each async for each in written]
    return result(facts, asked.question, [piece for piece, _ in whole], whole[-1][1])


class Stream:
    """The text of one answer as it is written: iterate over it, then ask for the whole.

    Closing the iterator cancels the answer.
    """

    def __init__(self, written: Iterator[tuple[Delta, tuple[int, int]]], facts: Facts, question: Question):
        self._written, self._facts, self._question = written, facts, question
        self._said: list[Delta] = []
        self._size = 1, 1

    def __iter__(self) -> Iterator[str]:
        """New text, piece by piece. Raises ViError."""
        try:
            with closing(self._written):  # type: ignore[type-var]
                for piece, size in self._written:
                    self._size = size
                    self._said.append(piece)
                    if piece.text:
                        yield piece.text
        except TritonVisionError as error:
            raise errors.of(error) from error

    def get_final_completion(self) -> answers.Result:
        """The result, once all of it is written. Raises ViError, also where it failed or was cancelled before."""
        if not self._written_to_its_end():
            for _ in self:
                pass
        if not self._written_to_its_end():
            raise errors.of(InvalidParameter("The answer was not written to its end.", hint="Ask again."))
        return result(self._facts, self._question, self._said, self._size)

    def _written_to_its_end(self) -> bool:
        return bool(self._said) and bool(self._said[-1].finish_reason)
