"""``tritonvision chat``: chat with a model about pictures in the terminal; the answer is streamed."""

from __future__ import annotations

import asyncio
import contextlib
import io
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from types import ModuleType
from typing import Annotated, Any

import typer

from tritonvision import catalog, tasks
from tritonvision.cli import complain
from tritonvision.cli.answers import printable
from tritonvision.cli.chat_sources import ChatSource, EmbeddedChat, FacadeChat
from tritonvision.cli.options import (
    ApiKey,
    MaxTokens,
    OwnRepository,
    SchemaFile,
    Url,
    highest,
    read_schema,
    settings_with,
)
from tritonvision.cli.pictures import STANDARD_INPUT, read_pictures
from tritonvision.cli.predict import note
from tritonvision.cli.sources import server_to_ask
from tritonvision.cli.told import Told
from tritonvision.errors import InvalidParameter, TritonVisionError

_LARGEST_SEED = highest("seed")
_PROMPT = "> "
_QUIT = "/quit"


def chat(
    model_id: Annotated[str, typer.Argument(help="Id or alias of a model that writes, see 'tritonvision models'.")],
    images: Annotated[
        list[str] | None,
        typer.Argument(metavar="[IMAGE...]", help="What the talk is about, as for predict; none for text alone."),
    ] = None,
    prompt: Annotated[str | None, typer.Option(metavar="TEXT", help="Ask this one question and end.")] = None,
    system: Annotated[str | None, typer.Option(metavar="TEXT", help="What the model is told before the talk.")] = None,
    max_tokens: MaxTokens = None,
    temperature: Annotated[
        float | None, typer.Option(min=0, max=2, metavar="F", help="0 takes the likeliest token. [0]")
    ] = None,
    top_p: Annotated[
        float | None, typer.Option(min=0, max=1, metavar="F", help="Draw from this share of the likeliest. [1]")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=_LARGEST_SEED, metavar="N", help="Draw the same again.")
    ] = None,
    detail: Annotated[
        str | None,
        typer.Option(metavar="low|high|auto", help="Read pictures in one view, in all tiles, or by their size. [high]"),
    ] = None,
    schema: SchemaFile = None,
    url: Url = None,
    api_key: ApiKey = None,
    repository: OwnRepository = None,
) -> None:
    """Talk with a model about pictures; the answer appears as it is written.

    Of an answer about one picture the places that it names are told in pixels, a line each, instead of the marks in
    which the model writes them.

    Ctrl-C ends the answer. Ctrl-C at the empty prompt, Ctrl-D or /quit ends the talk. Without a terminal every line of
    standard input is a question, and standard output holds the answers alone.

    \b
    Examples:
      tritonvision chat smolvlm-256m photo.jpg
      tritonvision chat smolvlm-256m photo.jpg --prompt "Who is this?"
      tritonvision chat smolvlm-256m before.jpg after.jpg --system "Answer in one sentence."
      tritonvision chat smolvlm-256m photo.jpg --temperature 0.7 --top-p 0.9 --seed 1
      tritonvision chat smolvlm-256m photo.jpg --detail low
      tritonvision chat smolvlm-256m photo.jpg --url gpu-box:9001 < questions.txt
    """
    settings = settings_with(repository=repository, api_key=api_key)
    catalog.check_id(model_id)
    if prompt is not None and not prompt.strip():
        raise InvalidParameter("The --prompt is empty.")
    writing = tasks.resolve(tasks.VLM.parameters, {
        "max_new_tokens": max_tokens, "temperature": temperature, "top_p": top_p, "seed": seed,
        "schema": read_schema(schema),
    })  # fmt: skip
    image = {"type": "image"} if detail is None else {"type": "image", "detail": tasks.check_detail(detail)}
    if STANDARD_INPUT in (images or ()) and prompt is None:
        raise InvalidParameter("Standard input is the picture, so the question has to come as --prompt.")
    pictures = read_pictures(images or (), settings)
    address = server_to_ask(url, settings.port)
    conversation = model_id, pictures, writing, note
    with asyncio.Runner() as runner:
        _talk(
            runner,
            EmbeddedChat(settings, *conversation)
            if address is None
            else FacadeChat(address, settings.api_key, *conversation),
            Talk([image] * len(pictures), system),
            prompt,
        )


class Talk:
    """The conversation.

    Args:
        pictures: the parts of the first question that are pictures.
        system: what the model is told before it, or None.
    """

    def __init__(self, pictures: Sequence[dict[str, Any]], system: str | None):
        self.messages: list[dict[str, Any]] = [] if system is None else [_message("system", system)]
        self._pictures = pictures

    async def ask(self, source: ChatSource, question: str, write: Callable[[str], None]) -> str:
        """Ask ``question``, ``write`` the answer piece by piece, and return why it ended: ``stop`` or ``length``.

        The places that an answer names are written behind its words, a line each. A partial answer is part of the
        conversation, as the model wrote it. A question without any answer is dropped.
        """
        before = len(self.messages)
        self.messages.append(self._question(question))
        told, reason = Told(source.grounding, self.messages, write), ""
        try:
            async with aclosing(source.answer(self.messages)) as pieces:
                async for piece in pieces:
                    told.add(piece)
                    reason = piece.finish_reason or reason
            write(told.rest(source.size))
        finally:
            if told.said or reason:
                self.messages.append(_message("assistant", told.said))
            else:
                del self.messages[before:]
        return reason

    def _question(self, text: str) -> dict[str, Any]:
        message = _message("user", text)
        if not any(earlier["role"] == "user" for earlier in self.messages):
            message["content"][:0] = self._pictures
        return message


def _message(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": text}]}


def _talk(runner: asyncio.Runner, source: ChatSource, talk: Talk, prompt: str | None) -> None:
    """Every question and its answer, between opening and closing ``source``.

    The runner cancels the running answer at Ctrl-C; else the next question is read.
    """
    runner.run(source.__aenter__())
    try:
        if prompt is not None:
            _answer(runner, source, talk, prompt)
        elif sys.stdin.isatty():
            _talk_with_a_person(runner, source, talk)
        else:
            if isinstance(sys.stdin, io.TextIOWrapper):
                sys.stdin.reconfigure(encoding="utf-8", errors="replace")
            for question in filter(None, map(str.strip, sys.stdin)):
                _answer(runner, source, talk, question)
    finally:
        runner.run(source.__aexit__(None, None, None))


def _talk_with_a_person(runner: asyncio.Runner, source: ChatSource, talk: Talk) -> None:
    typer.secho("Ctrl-C ends an answer; Ctrl-D or /quit ends the talk.", err=True, dim=True)
    for question in _questions():
        try:
            if _answer(runner, source, talk, question) == "length":
                typer.secho("(cut off: --max-tokens allows longer answers)", err=True, dim=True)
        except KeyboardInterrupt:  # ends this answer
            sys.stdout.write("\n")
        except TritonVisionError as error:  # the next question may succeed
            complain(error.message, error.hint)


def _answer(runner: asyncio.Runner, source: ChatSource, talk: Talk, question: str) -> str:
    """Print one answer on a line of its own, and return why it ended."""
    clean = printable if sys.stdout.isatty() else str

    def write(text: str) -> None:
        sys.stdout.write(clean(text))
        sys.stdout.flush()

    reason = runner.run(talk.ask(source, question, write))
    write("\n")
    return reason


def _questions() -> Iterator[str]:
    """What a person types, line by line, until they end the talk."""
    line_editor: ModuleType | None = None
    with contextlib.suppress(ImportError):  # not in every Python; without it there is no history
        import readline as line_editor
    while True:
        try:
            line = _read_line()
        except EOFError:
            sys.stderr.write("\n")
            return
        except KeyboardInterrupt:
            sys.stderr.write("\n")
            if line_editor is None or not line_editor.get_line_buffer():
                return
            continue  # the typed line is dropped, as in a shell
        if line.strip() == _QUIT:
            return
        if line.strip():
            yield line.strip()


def _read_line() -> str:
    if sys.stdout.isatty():
        return input(_PROMPT)
    sys.stderr.write(_PROMPT)  # standard output is for the answers
    sys.stderr.flush()
    return input()
