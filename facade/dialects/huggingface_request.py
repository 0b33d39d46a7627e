"""What a request of the Hugging Face dialect holds, and how its model is asked: a picture or texts, and parameters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from starlette.requests import Request

from tritonvision import tasks
from tritonvision.errors import InvalidParameter, InvalidPicture
from tritonvision.facade.context import desk_of, read_json
from tritonvision.facade.desk import Answered, Desk, Read
from tritonvision.facade.inputs import Pictures, from_base64
from tritonvision.publication import Manifest
from tritonvision.tasks import Parameter

_TRUE, _FALSE = ("true", "1"), ("false", "0")
_URL = ("http://", "https://")


@dataclass(frozen=True)
class Asked:
    """The body of a request.

    Attributes:
        inputs: the raw body, or ``inputs`` of the JSON.
        parameters: those that are not null.
        root: what else the JSON says.
    """

    inputs: Any
    parameters: dict[str, Any]
    root: Mapping[str, Any] = field(default_factory=dict)

    @property
    def question(self) -> str | None:
        """What is asked about the picture: it stands beside it, at the root or within ``inputs``."""
        inside = self.inputs.get("question") if isinstance(self.inputs, dict) else None
        return inside if inside is not None else self.root.get("question")

    def is_text(self, pictures: Pictures) -> bool:
        """Whether ``inputs`` is texts for a model that reads both: nothing marks them, so what is no picture is."""
        if isinstance(self.inputs, list):
            return True
        if not isinstance(self.inputs, str) or self.inputs[:8].lower().startswith((*_URL, "data:")):
            return False
        try:
            pictures.encoded(from_base64(self.inputs))
        except InvalidPicture:
            return True
        return False

    def picture(self, pictures: Pictures) -> Read:
        """How to read the picture. Raises InvalidPicture when there cannot be one."""
        if isinstance(self.inputs, bytes):
            return partial(_encoded, pictures, self.inputs)
        value = self.inputs.get("image") if isinstance(self.inputs, dict) else self.inputs
        if not isinstance(value, str) or not value:
            raise InvalidPicture("'inputs' must be one picture in base64.")
        return partial(pictures.read, "url" if value[:8].lower().startswith(_URL) else "base64", value)


@dataclass(frozen=True)
class Question:
    """One request for one model.

    Attributes:
        wait, patience: for a model that is not loaded, as :meth:`Desk.ask` has them.
    """

    request: Request
    manifest: Manifest
    asked: Asked
    wait: bool
    patience: float

    @property
    def desk(self) -> Desk:
        """The application's."""
        return desk_of(self.request)

    @property
    def picture(self) -> Read:
        """How to read the picture. Raises InvalidPicture when there cannot be one."""
        return self.asked.picture(self.desk.pictures)

    def given(self, *parameters: Parameter, root: bool = False) -> dict[str, Any]:
        """Those parameters of the request, or their defaults; with ``root`` they may stand there too.

        Raises InvalidParameter.
        """
        all_given = {**self.asked.root, **self.asked.parameters} if root else self.asked.parameters
        return tasks.resolve(parameters, {p.name: all_given[p.name] for p in parameters if p.name in all_given})

    def settings(self, **given: Any) -> dict[str, Any]:
        """Every setting of the model's task. Raises InvalidParameter."""
        return tasks.resolve(tasks.TASKS[self.manifest.task].parameters, given)

    async def about_picture(self, **given: Any) -> Answered:
        """The model's answer about the picture under those settings. Raises what :meth:`Desk.ask` raises."""
        return await self.desk.ask(
            self.request, self.manifest, [self.picture], self.settings(**given), wait=self.wait, patience=self.patience
        )

    async def loaded(self) -> None:
        """Return when the model is loaded. Raises ModelLoading."""
        await self.desk.loaded(self.request, self.manifest, wait=self.wait, patience=self.patience)


@dataclass(frozen=True)
class Task:
    """One task of the dialect.

    Attributes:
        name: as its paths spell it.
        does: the tasks of ours that answer it.
        answer: the body of the answer.
        fits: whether a request that names no task means this one.
    """

    name: str
    does: tuple[str, ...]
    answer: Callable[[Question], Awaitable[Any]]
    fits: Callable[[Asked, Pictures], bool] = lambda *_: True


async def read(request: Request) -> Asked:
    """The body: raw bytes, or JSON. The content type is a hint, not more. Raises InvalidPicture, InvalidParameter."""
    data = await request.body()
    is_json = request.headers.get("content-type", "").lower().startswith("application/json")
    if is_json or data.lstrip()[:1] == b"{":
        body = await _json(request)
        if is_json or isinstance(body, dict) and ("inputs" in body or "image" in body):
            return _from_json(body)
    return Asked(data, {name: _literal(value) for name, value in request.query_params.items() if value})


def boolean(text: str | None, default: bool) -> bool:
    """What a header says, or ``default`` when it says nothing of the kind."""
    value = (text or "").strip().lower()
    return value in _TRUE if value in _TRUE + _FALSE else default


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
    root = {name: value for name, value in body.items() if name not in ("inputs", "image", "parameters")}
    return Asked(body.get("inputs", body.get("image")), _present(given or {}), _present(root))


def _present(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


async def _encoded(pictures: Pictures, data: bytes, _: Any) -> bytes:
    return pictures.encoded(data)


def _literal(text: str) -> Any:
    """A number or a truth value of the query string, or the text itself."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return float(text)
    except ValueError:
        return text
