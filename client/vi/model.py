"""``ViModel``: Datature Vi's class over the models of this package, see ``docs/vi.md``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any

from tritonvision.client import publishing
from tritonvision.client.automodel.names import checked_name
from tritonvision.client.automodel.servers import SERVERS, is_http, say
from tritonvision.client.remote.facade import RunningFacade
from tritonvision.client.vi import asking, precision, sources
from tritonvision.client.vi.asking import Asked, Stream
from tritonvision.client.vi.progress import shown
from tritonvision.engine.facts import Facts
from tritonvision.errors import TritonVisionError
from tritonvision.publication import TOLD_RANDOM, Repository
from tritonvision.settings import Settings, read_settings
from tritonvision.tasks import VLM
from tritonvision.vi import errors, questions
from tritonvision.vi.answers import Result
from tritonvision.vi.errors import ViConfigurationError, ViError, ViMissingModelError, ViValidationError
from tritonvision.vi.models import ModelInfo

Pair = tuple[Result | None, ViError | None]
_TOLD: set[str] = set()  # sentences that are said once a process


class ViModel:
    """A published model that reads pictures and writes, by the id of its run.

    Attributes:
        run_id: public id of the model.
        task_type: what its run was trained for: ``vqa`` or ``phrase-grounding``; ``vqa`` of a model without a run.
    """

    def __init__(
        self, *, secret_key: str | None = None, organization_id: str | None = None, run_id: str | None = None,
        device_map: Any = "auto", attn_implementation: str | None = None, dtype: Any = None,
        load_in_8bit: bool = False, load_in_4bit: bool = False, low_cpu_mem_usage: bool = True,
        endpoint: str | None = None, pretrained_model_name_or_path: str | None = None, ckpt: str | None = None,
        save_path: Any = None, loader_key: str | None = None, overwrite: bool = False,
        trust_remote_code: bool = False,
    ):  # fmt: skip
        """Find the model and load it.

        Args:
            secret_key: the key of the server, where it requires one; by default ``DATATURE_VI_SECRET_KEY``.
            organization_id: told to the server; by default ``DATATURE_VI_ORGANIZATION_ID``.
            run_id: an id or alias of the catalogue, or the id that an export gave your weights (``--as``).
            device_map, low_cpu_mem_usage: the server decides; another ``device_map`` than ``auto`` is warned about.
            attn_implementation: is part of the published graphs; it is warned about.
            dtype, load_in_8bit, load_in_4bit: the precision to run in. Without ``endpoint`` the published variant of
                that precision serves from now on, or is built; a server elsewhere has to run it already.
            endpoint: ``http(s)://HOST:PORT`` of a ``tritonvision serve``, or ``grpc://HOST:PORT`` of a Triton; by
                default ``DATATURE_VI_API_ENDPOINT``, the setting ``TRITONVISION_SERVER``, or a tritonserver that this
                process starts, which exports what is not published.
            pretrained_model_name_or_path: another way to name the model.
            ckpt: of the run: the model is ``RUN_ID/CKPT``.
            save_path, loader_key, overwrite, trust_remote_code: without a meaning here.

        Raises:
            ViMissingModelError, ViConfigurationError: no model or no key is named, or a precision cannot be had.
            ViNotFoundError, ViAuthenticationError, ViConnectionError, ...: it cannot be loaded.
        """
        name = _name(run_id, pretrained_model_name_or_path, ckpt)
        wanted = precision.wanted(dtype, load_in_8bit, load_in_4bit)
        _warn(device_map, attn_implementation)
        try:
            self._settings, key = _settings(secret_key, organization_id, endpoint)
            if not self._settings.server:
                publishing.ensure_published(self._settings.repository, checked_name(name), say)
                if wanted:
                    precision.let_serve(self._settings, name, wanted, say)
            self._connection = SERVERS.connection(self._settings, key, self._settings.vi_organization_id or "")
            self._facts = SERVERS.run(self._connection, lambda asked: asked.facts(name))
        except TritonVisionError as error:
            raise errors.of(error) from error
        _check(self._facts, wanted)
        self.run_id, self.task_type = self._facts.id, self._facts.asked_as or questions.VQA

    def __repr__(self) -> str:
        return f"<ViModel {self.run_id}: {self.task_type}>"

    @staticmethod
    def inspect(
        *, secret_key: str | None = None, organization_id: str | None = None, run_id: str | None = None,
        endpoint: str | None = None, pretrained_model_name_or_path: str | None = None, ckpt: str | None = None,
    ) -> ModelInfo:  # fmt: skip
        """What a published model is, without loading it. Arguments and errors as of :class:`ViModel`."""
        name = _name(run_id, pretrained_model_name_or_path, ckpt)
        try:
            settings, key = _settings(secret_key, organization_id, endpoint)
            if settings.server and is_http(settings.server):
                told = SERVERS.background.run(_told(settings.server, key, name))
                return ModelInfo(**{field: told[field] for field in ModelInfo.__dataclass_fields__})
            return ModelInfo.of(Repository(settings.repository).resolve(name))
        except TritonVisionError as error:
            raise errors.of(error) from error

    def __call__(
        self, source: Any = None, user_prompt: str | Sequence[str] | None = None, generation_config: Any = None,
        show_progress: bool = True, recursive: bool = False, *, stream: bool = False, cot: bool = False,
        task_type: str | None = None, response_format: Any = None, fps: float | None = None,
    ) -> Pair | list[Pair] | Stream:  # fmt: skip
        """Ask about one picture or several.

        Args:
            source: a path, an http(s) address, a ``data:`` URL, a folder, or a list of these.
            user_prompt: a text for all pictures, or a list of one for each; a model of phrases needs none.
            generation_config: ``max_new_tokens`` (512), ``temperature`` (1.0), ``top_p`` (1.0), ``top_k`` (50),
                ``do_sample`` (True; False takes the likeliest token each time, and places are found more reliably),
                ``repetition_penalty`` (1.0), ``seed``, ``stop_strings``; an object with these attributes will do.
            show_progress: whether a bar is shown on standard error.
            recursive: whether folders within folders count.
            stream: for one picture: whether its text is given piece by piece.
            cot: whether the model is asked to think first.
            task_type: ``vqa``, ``phrase-grounding`` or ``freeform`` in place of the run's.
            response_format: a class of pydantic or a JSON schema that the answer follows; ``caption`` is its JSON.
            fps: of videos, which are not read: without a meaning.

        Returns:
            ``(result, error)``, of which one is None; for a list or a folder a list of them, in its order and of its
            length. With ``stream`` a :class:`Stream`.

        Raises:
            ViValidationError: nothing is named, a folder is empty, or there are not as many prompts as pictures. Other
                errors are returned.
        """
        schema = _schema(response_format)
        found = sources.resolve(source, recursive)
        pairs: list[Pair] = [(None, None)] * len(found.listed)
        asked = []
        for place, (each, prompt) in enumerate(zip(found.listed, _each(user_prompt, found), strict=True)):
            try:
                question = self._question(prompt, generation_config, task=task_type, cot=cot, schema=schema)
            except TritonVisionError as error:
                pairs[place] = None, errors.of(error)
                continue
            if isinstance(each, ViError):
                pairs[place] = None, each
            else:
                asked.append(Asked(place, each, question))
        if stream:
            return self._stream(found, asked, pairs)
        with shown(len(pairs), sources.name(found.listed[0]), show_progress) as tick:
            for _ in range(len(pairs) - len(asked)):
                tick()
            self._ask(asked, pairs, tick)
        return pairs if found.several else pairs[0]

    def _question(self, prompt: Any, config: Any, **options: Any) -> questions.Question:
        return questions.question(self._facts.asked_as, self._facts.grounding, prompt, config, **options)

    def _ask(self, asked: list[Asked], pairs: list[Pair], tick: Any) -> None:
        """Put the outcome of each question into its place."""
        told = SERVERS.iterate(
            self._connection, lambda there: asking.outcomes(there, self._facts, asked, self._settings)
        )  # fmt: skip
        try:
            with closing(told):
                for place, outcome in told:
                    pairs[place] = (None, outcome) if isinstance(outcome, ViError) else (outcome, None)
                    tick()
        except TritonVisionError as error:  # of the connection: what has no answer by now gets none
            for each in asked:
                if pairs[each.place] == (None, None):
                    pairs[each.place] = None, errors.of(error)

    def _stream(self, found: sources.Sources, asked: list[Asked], pairs: list[Pair]) -> Stream:
        if found.several:
            raise ViValidationError("An answer is streamed about one picture.", suggestion="Ask about them one by one.")
        if not asked:
            error = pairs[0][1]
            assert error is not None, "what is not asked has an error"
            raise error
        written = SERVERS.iterate(
            self._connection, lambda there: asking.pieces(there, self._facts, asked[0], self._settings)
        )  # fmt: skip
        return Stream(written, self._facts, asked[0].question)


def _name(run_id: str | None, pretrained: str | None, ckpt: str | None) -> str:
    name = run_id or pretrained
    if not name:
        raise ViMissingModelError("No model is named.", suggestion="Give run_id; 'tritonvision models' lists ids.")
    return f"{name}/{ckpt}" if ckpt else name


def _settings(secret_key: str | None, organization_id: str | None, endpoint: str | None) -> tuple[Settings, str]:
    """The settings of this process with these laid over them, and the key. Raises ViConfigurationError."""
    settings = read_settings(vi_secret_key=secret_key, vi_organization_id=organization_id, vi_endpoint=endpoint)
    for given, name in ((settings.vi_secret_key, "secret_key"), (settings.vi_organization_id, "organization_id")):
        if not given:
            raise ViConfigurationError(
                f"'{name}' is missing.", suggestion=f"Give it, or set DATATURE_VI_{name.upper()}; a server without "
                "a key of its own takes any.",
            )  # fmt: skip
    assert settings.vi_secret_key is not None, "checked above"
    return settings.model_copy(update={"server": settings.vi_endpoint or settings.server}), settings.vi_secret_key


def _check(facts: Facts, wanted: str) -> None:
    """Refuse a model that does not write, or does not run in the precision that is wanted."""
    if facts.task != VLM.name:
        raise ViConfigurationError(
            f"'{facts.id}' does {facts.task}; ViModel asks models that write.",
            suggestion="AutoModel takes the others.",
        )
    if wanted:
        precision.check_served(facts, wanted)
    if facts.weights == "random":
        _say_once(TOLD_RANDOM.format(facts.id))


def _warn(device_map: Any, attn_implementation: str | None) -> None:
    """Say in a sentence what has no effect."""
    if device_map not in (None, "auto"):
        _say_once("device_map has no effect: the server decides where a model runs.")
    if attn_implementation is not None:
        _say_once("attn_implementation has no effect: attention is part of the published graphs.")


def _say_once(sentence: str) -> None:
    if sentence not in _TOLD:
        _TOLD.add(sentence)
        say(sentence)


def _schema(response_format: Any) -> dict[str, Any] | None:
    """The JSON schema of a class of pydantic, or the schema itself. Raises ViValidationError."""
    if response_format is None or isinstance(response_format, dict):
        return response_format
    if hasattr(response_format, "model_json_schema"):
        return response_format.model_json_schema()
    raise ViValidationError("'response_format' must be a class of pydantic or a JSON schema.")


def _each(prompts: Any, found: sources.Sources) -> list[Any]:
    """The prompt of each picture. Raises ViValidationError where there are more or fewer."""
    count = len(found.listed)
    if prompts is None or isinstance(prompts, str):
        return [prompts] * count
    if not isinstance(prompts, Sequence):
        raise ViValidationError("'user_prompt' must be a text or a list of texts.")
    if len(prompts) != count:
        raise ViValidationError(f"There are {len(prompts)} prompts and {count} pictures.")
    return list(prompts)


async def _told(server: str, key: str, name: str) -> dict[str, Any]:
    async with RunningFacade(server, key, say) as facade:
        return await facade.get(f"/vi/v1/models/{name}")
