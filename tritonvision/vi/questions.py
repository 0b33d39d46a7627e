"""What Vi asks of a model that generates text: its tasks, their prompts, and the settings of the answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tritonvision import tasks
from tritonvision.errors import InvalidParameter
from tritonvision.grounding.schema import JSON_SCHEMA

VQA, GROUNDING, FREEFORM = TASKS = ("vqa", "phrase-grounding", "freeform")
GENERIC = "generic"  # an answer by a schema of the caller's

# Vi's names of settings, with Vi's defaults.
DEFAULTS: Mapping[str, Any] = {
    "max_new_tokens": 512, "temperature": 1.0, "top_p": 1.0, "top_k": 50, "do_sample": True, "repetition_penalty": 1.0,
    "seed": None, "stop_strings": None,
}  # fmt: skip
_THINKING_TOKENS = 4096  # of an answer that is thought about first, where nobody says how many
_ANY_SEED = -1
_BOUNDS = {parameter.name: parameter for parameter in tasks.VLM.parameters}

_THINK = (
    "Think first, between <think> and </think>. Then write the answer alone, between <answer> and </answer>, and "
    "nothing after it."
)
_ALL = "Describe this picture, and say where each object in it is."
_SCHEMA = (
    "You describe pictures and say where things are. Write one sentence about what can be seen, at most twenty things. "
    "Then give, for each phrase of that sentence that names something visible, letter by letter as it stands there, "
    "every box of it as [x_min, y_min, x_max, y_max], whole numbers from 0 to 1024 of the picture's width and height, "
    "the origin at the top left. Name nothing that cannot be seen. End with JSON on one line and nothing after it: "
    '{"phrase_grounding":{"sentence":"...","groundings":[{"phrase":"...","grounding":[[x_min,y_min,x_max,y_max]]}]}}'
)
# How a model without a run's training is asked for places: what is asked where the caller asks nothing, what the
# caller's words are put into, and where they already are in the convention's own words.
_ASKED: Mapping[str, tuple[str, str, tuple[str, ...]]] = {
    "qwen2_5": (_ALL, '{} Answer in JSON, a list of {{"bbox_2d": [x1, y1, x2, y2], "label": "..."}}.', ("bbox_2d",)),
    "qwen3": (_ALL, '{} Answer in JSON, a list of {{"bbox_2d": [x1, y1, x2, y2], "label": "..."}}.', ("bbox_2d",)),
    "internvl": (
        _ALL, "{} Write each phrase that names an object as <ref>phrase</ref><box>[[x1, y1, x2, y2]]</box>.", ("<ref>",)
    ),
    "paligemma": ("object", "detect {}", ("detect ", "segment ")),
    "moondream": ("object", "detect: {}", ("detect:", "point:")),
    "florence": ("<OD>", "<CAPTION_TO_PHRASE_GROUNDING>{}", ("<",)),
}  # fmt: skip


@dataclass(frozen=True)
class Question:
    """One question about one picture.

    Attributes:
        task: of :data:`TASKS`.
        prompt: what the caller asks, or what is asked where the caller asks nothing.
        messages: what the model is sent, see :func:`tritonvision.tasks.about_picture`.
        settings: of :data:`tritonvision.tasks.VLM`, all.
    """

    task: str
    prompt: str
    messages: list[dict[str, Any]]
    settings: dict[str, Any]


def question(
    asked_as: str, convention: str, prompt: str | None, config: Any = None, *, task: str | None = None,
    cot: bool = False, schema: Mapping[str, Any] | None = None,
) -> Question:  # fmt: skip
    """The question of one call.

    Args:
        asked_as: what the model's run was trained for, see :class:`tritonvision.publication.Manifest`; empty where it
            was trained for no run.
        convention: in which it writes places, see :mod:`tritonvision.grounding`.
        prompt: None asks a model for phrases with the default prompt.
        config: of the answer, see :func:`settings`.
        task: of :data:`TASKS` in place of the run's; of a model without a run it is ``vqa`` by default.
        cot: whether the model is asked to think first.
        schema: JSON schema of the answer, which is then JSON and nothing else.

    Raises:
        InvalidParameter: no such task or setting, or a question is missing.
    """
    if task is not None and task not in TASKS:
        raise InvalidParameter(f"There is no task '{str(task)[:40]}'.", hint=f"There are: {', '.join(TASKS)}.")
    task = task or asked_as or VQA
    if schema is not None:
        task = GENERIC
    given = settings(config, _THINKING_TOKENS if cot else None) | ({} if schema is None else {"schema": dict(schema)})
    if prompt is not None and not isinstance(prompt, str):
        raise InvalidParameter("'user_prompt' must be a text.")
    if task == GROUNDING:
        asked, system = _for_places(asked_as, convention, prompt)
        if system and asked_as != GROUNDING and not cot:
            given["schema"] = JSON_SCHEMA  # it was never trained to write it
        prompt = prompt if prompt and prompt.strip() else asked
    elif prompt is None or not prompt.strip():
        raise InvalidParameter(
            "The model has to be asked a question.", hint="Give user_prompt='What colour is the car?'."
        )
    else:
        asked, system = prompt, ""
    instructions = " ".join(part for part in (system, _THINK if cot else "") if part)
    first = [{"role": "system", "content": [{"type": "text", "text": instructions}]}] if instructions else []
    return Question(task, prompt, [*first, *tasks.about_picture(asked)], given)


def settings(config: Any, most_tokens: int | None = None) -> dict[str, Any]:
    """The settings of an answer, all of :data:`tritonvision.tasks.VLM`.

    Args:
        config: a mapping, or an object with attributes, of :data:`DEFAULTS`; what is missing keeps its default.
            ``do_sample`` False and a temperature of 0 both take the likeliest token; ``seed`` -1 is none.
        most_tokens: default of ``max_new_tokens`` in place of Vi's.

    Raises:
        InvalidParameter: an unknown name, or a value out of its range.
    """
    given = dict(DEFAULTS) | ({"max_new_tokens": most_tokens} if most_tokens else {}) | _read(config)
    if not isinstance(given["do_sample"], bool):
        raise InvalidParameter("'do_sample' must be true or false.")
    sampled = ("temperature", "top_p", "top_k")
    hot = given["do_sample"]
    asked = {name: given[name] for name in ("max_new_tokens", "repetition_penalty")}
    asked |= {name: _BOUNDS[name].check(given[name]) for name in sampled} if hot else {"temperature": 0.0}
    if hot and asked["top_p"] == 0:
        raise InvalidParameter("'top_p' must be over 0.")
    stop = given["stop_strings"]
    asked["stop"] = [stop] if isinstance(stop, str) else list(stop) if isinstance(stop, tuple) else stop
    asked["seed"] = None if given["seed"] == _ANY_SEED else given["seed"]
    return tasks.resolve(tasks.VLM.parameters, asked)


def _read(config: Any) -> dict[str, Any]:
    """The settings that were given, by Vi's names."""
    if config is None:
        return {}
    if not isinstance(config, Mapping):
        found = {name: getattr(config, name) for name in DEFAULTS if hasattr(config, name)}
        if not found:
            raise InvalidParameter("'generation_config' must be a dict of settings.")
        config = found
    for name in config:
        if name not in DEFAULTS:
            raise InvalidParameter(
                f"'generation_config' does not know '{str(name)[:40]}'.", hint=f"Known are: {', '.join(DEFAULTS)}."
            )
    return {name: value for name, value in config.items() if value is not None}


def _for_places(asked_as: str, convention: str, prompt: str | None) -> tuple[str, str]:
    """What the user and the system say where places are wanted.

    A run that was trained for it writes Vi's schema, and so does a model whose family has no convention.
    """
    words = prompt.strip() if prompt else ""
    if asked_as == GROUNDING or convention not in _ASKED:
        return words or _ALL, _SCHEMA
    usual, form, own = _ASKED[convention]
    words = words or usual
    return words if any(mark in words for mark in own) else form.format(words), ""
