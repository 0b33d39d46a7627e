"""Requests of the Hugging Face dialect: a picture or texts, and parameters; and how they run on the model."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import orjson
from starlette.requests import Request

from tritonvision import tasks
from tritonvision.errors import InvalidParameter, InvalidPicture
from tritonvision.facade.context import service_of
from tritonvision.facade.inputs.json_body import read_json, starts_an_object
from tritonvision.facade.inputs.pictures import Pictures, from_base64
from tritonvision.facade.service import Answered, Read, Service
from tritonvision.facade.workers import LARGE, in_thread
from tritonvision.publication import Manifest
from tritonvision.tasks import Parameter

_URL = ("http://", "https://")
_JAVASCRIPT = "@huggingface/inference"
_NO_PARAMETERS = ("inputs", "image", "question", "parameters", "options")  # of a body's root


@dataclass(frozen=True)
class Asked:
    """The body of a request.

    Attributes:
        inputs: the raw body, or ``inputs`` of the JSON.
        parameters: those that are not null, of ``parameters`` or, where it does not have them, of the JSON's root.
        question: about the picture; it stands beside it, at the root or within ``inputs``.
    """

    inputs: Any
    parameters: dict[str, Any]
    question: Any = None

    @cached_property
    def data(self) -> bytes | None:
        """The encoded picture; None for a URL. Raises InvalidPicture if there is none."""
        if isinstance(self.inputs, bytes):
            return self.inputs
        text = self.text
        if not isinstance(text, str) or not text:
            raise InvalidPicture("'inputs' must be one picture in base64.")
        return None if _is_url(text) else from_base64(text)

    @property
    def text(self) -> Any:
        """The picture as base64 or a URL."""
        return self.inputs.get("image") if isinstance(self.inputs, dict) else self.inputs

    def is_text(self, pictures: Pictures) -> bool:
        """Whether ``inputs`` are texts, for a model that reads both: the request does not say, so it is all but
        pictures.
        """
        if isinstance(self.inputs, list):
            return True
        if not isinstance(self.inputs, str) or _is_url(self.inputs) or self.inputs[:5].lower() == "data:":
            return False
        if len(self.inputs) >= LARGE:
            return False  # longer than any text
        try:
            data = self.data
            assert data is not None, "a URL is no text"
            pictures.check(data)
        except InvalidPicture:
            return True
        return False

    def picture(self, pictures: Pictures) -> Read:
        """How to read the picture. Raises InvalidPicture when there cannot be one."""
        if self.data is None:
            return partial(pictures.read, "url", self.text)
        return partial(_encoded, pictures, self.data)


@dataclass(frozen=True)
class Question:
    """One request for one model.

    Attributes:
        wait, wait_timeout: for a model that is not loaded, as :meth:`Service.ask` has them.
    """

    request: Request
    manifest: Manifest
    asked: Asked
    wait: bool
    wait_timeout: float

    @property
    def service(self) -> Service:
        """The application's."""
        return service_of(self.request)

    @property
    def picture(self) -> Read:
        """How to read the picture. Raises InvalidPicture when there cannot be one."""
        return self.asked.picture(self.service.pictures)

    def given(self, *parameters: Parameter) -> dict[str, Any]:
        """Those parameters of the request, or their defaults. Raises InvalidParameter."""
        all_given = self.asked.parameters
        return tasks.resolve(parameters, {p.name: all_given[p.name] for p in parameters if p.name in all_given})

    @property
    def javascript(self) -> bool:
        """Whether the JavaScript client asks, which wants an object where Python's wants a list."""
        return self.request.headers.get("user-agent", "").startswith(_JAVASCRIPT)

    async def key(self, task: Task) -> bytes | None:
        """The cache key of this question, or None if its answer is not cached.

        It does not depend on how the picture was sent, nor on parameters that equal their defaults.
        Raises InvalidParameter, InvalidPicture.
        """
        if not task.keeps(self):
            return None
        what: Any = self.asked.inputs if task.of_texts else self.asked.data
        if what is None:  # the picture behind a URL may change
            return None
        if isinstance(what, bytes):
            what = await _digest(what)
        checked = self.given(*(p for p in task.reads if isinstance(p, Parameter)))
        others = {name: self.asked.parameters.get(name) for name in task.reads if isinstance(name, str)}
        facts = [task.name, self.manifest.id, self.asked.question, self.javascript, what, checked, others]
        return hashlib.sha256(orjson.dumps(facts, option=orjson.OPT_SORT_KEYS)).digest()

    def settings(self, **given: Any) -> dict[str, Any]:
        """Every setting of the model's task. Raises InvalidParameter."""
        return tasks.resolve(tasks.TASKS[self.manifest.task].parameters, given)

    async def about_picture(self, **given: Any) -> Answered:
        """The model's answer for the picture with these settings. Raises what :meth:`Service.ask` raises."""
        return await self.service.ask(
            self.request, self.manifest, [self.picture], self.settings(**given), wait=self.wait,
            wait_timeout=self.wait_timeout
        )

    async def loaded(self) -> None:
        """Return when the model is loaded. Raises ModelLoading."""
        await self.service.loaded(self.request, self.manifest, wait=self.wait, wait_timeout=self.wait_timeout)


@dataclass(frozen=True)
class Task:
    """One task of the dialect.

    Attributes:
        name: as its paths spell it.
        does: the tasks of ours that answer it.
        of: which of the models that do them.
        answer: the body of the answer; or its steps, of which the last is the body.
        fits: whether a request without a task fits this one.
        reads: what the answer depends on besides ``inputs`` and a question: parameters, or names of those that the task
            checks by itself.
        of_texts: whether ``inputs`` are texts.
        keeps: whether the answer is deterministic, so that it can be cached.
        large: whether the body may be megabytes.
    """

    name: str
    does: tuple[str, ...]
    answer: Callable[[Question], Awaitable[Any] | AsyncGenerator[Any, None]]
    fits: Callable[[Asked, Pictures], bool] = lambda *_: True
    reads: tuple[Parameter | str, ...] = ()
    of_texts: bool = False
    keeps: Callable[[Question], bool] = lambda _: True
    large: bool = False
    of: Callable[[Manifest], bool] = lambda _: True


async def read(request: Request) -> Asked:
    """The body: raw bytes, or JSON. The content type is a hint, not more. Raises InvalidPicture, InvalidParameter."""
    data = await request.body()
    if _may_be_json(request, data):
        body = await _json(request)
        if _says_json(request) or isinstance(body, dict) and ("inputs" in body or "image" in body):
            asked = _from_json(body)
            if isinstance(asked.text, str) and len(asked.text) >= LARGE:
                await in_thread(getattr, asked, "data")  # decoded once and kept
            return asked
    return Asked(data, {name: _literal(value) for name, value in request.query_params.items() if value})


async def options_of(request: Request) -> Mapping[str, Any]:
    """``options`` of a JSON body: ``wait_for_model`` and ``use_cache``, overridden by their headers.

    A body that is no JSON has none; other errors are :func:`read`'s.
    """
    if not _may_be_json(request, await request.body()):
        return {}
    try:
        body = await read_json(request)
    except ValueError:
        return {}
    options = body.get("options") if isinstance(body, dict) else None
    return options if isinstance(options, dict) else {}


def _says_json(request: Request) -> bool:
    return request.headers.get("content-type", "").lower().startswith("application/json")


def _may_be_json(request: Request, data: bytes) -> bool:
    return _says_json(request) or starts_an_object(data)


async def _digest(data: bytes) -> str:
    if len(data) < LARGE:
        return hashlib.sha256(data).hexdigest()
    return await in_thread(lambda: hashlib.sha256(data).hexdigest())


def _is_url(text: str) -> bool:
    return text[:8].lower().startswith(_URL)


async def _json(request: Request) -> Any:
    try:
        return await read_json(request)
    except ValueError as error:
        raise InvalidPicture("The body is neither JSON nor a picture.") from error


def _from_json(body: Any) -> Asked:
    if not isinstance(body, dict):
        raise InvalidPicture("The body must be a JSON object with 'inputs'.")
    given = body.get("parameters")
    if not isinstance(given, dict | None):
        raise InvalidParameter("'parameters' must be an object.")
    inputs = body.get("inputs", body.get("image"))
    within = inputs.get("question") if isinstance(inputs, dict) else None
    root = {name: value for name, value in body.items() if name not in _NO_PARAMETERS}
    return Asked(inputs, _present(root) | _present(given or {}), body.get("question") if within is None else within)


def _present(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


async def _encoded(pictures: Pictures, data: bytes, _: Any) -> bytes:
    return await pictures.encoded(data)


def _literal(text: str) -> Any:
    """A number or a truth value of the query string, or the text itself."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return float(text)
    except ValueError:
        return text
