"""Hugging Face's tasks with text: candidate labels, features of pictures and texts, generated text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tritonvision import tasks
from tritonvision.errors import InvalidParameter
from tritonvision.facade.admission import ByteReservation
from tritonvision.facade.dialects.common import features
from tritonvision.facade.dialects.huggingface import responses as formats
from tritonvision.facade.dialects.huggingface.request import Question, Task
from tritonvision.facade.service import Read
from tritonvision.facade.workers import in_thread
from tritonvision.grounding import Grounded, florence, naming
from tritonvision.grounding.detections import detections
from tritonvision.grounding.located import Convention, located
from tritonvision.grounding.reply_stream import answered
from tritonvision.pictures import shown_size
from tritonvision.publication import Manifest
from tritonvision.tasks import Parameter
from tritonvision.vectors import cosines, directions

_THRESHOLD = Parameter("threshold", "float", 0.1, 0.0, 1.0)
_TOP_K = Parameter("top_k", "int", None, 1, 10_000)
_NORMALIZE = Parameter("normalize", "bool", False)
_POOL = Parameter("pool", "bool", True)
_ENCODING = Parameter("encoding_format", "choice", "float", choices=("float",))
_DIRECTION = Parameter("truncation_direction", "choice", "right", choices=("right",))
_TEMPLATE, _PLACE = "This is a photo of {}.", "{}"
# The inverse temperature of the softmax: CLIP's training clips it here, and its published weights reach it.
_LOGIT_SCALE = 100.0
_MOST_PROMPTS = 8  # of one request, each an answer of its own
# The default prompt, since the dialect's client cannot send one; and those of models that read tasks, by convention.
_PROMPT = "Describe this image."
_CAPTIONS = {"florence": "<CAPTION>", "paligemma": "caption en", "moondream": "caption: normal"}


# ---- candidate labels ------------------------------------------------------------------------------------------------


async def detect(question: Question) -> list[dict[str, Any]]:
    """Boxes of the candidate labels, without non-maximum suppression, as in the original."""
    names, given = labels(question), question.given(_THRESHOLD, _TOP_K)
    answered = await question.about_picture(
        texts=names, confidence=given["threshold"], max_detections=given["top_k"]
    )  # fmt: skip
    return formats.boxes(answered.results[0], names)


async def classify(question: Question) -> list[dict[str, Any]]:
    """The probability of each candidate label: a softmax over the cosines of picture and texts."""
    names, template = labels(question), question.asked.parameters.get("hypothesis_template", _TEMPLATE)
    if not isinstance(template, str) or _PLACE not in template:
        raise InvalidParameter(f"'hypothesis_template' must be a text with {_PLACE} in it.")
    picture = (await question.about_picture()).results[0]
    texts = await _texts(question, [template.replace(_PLACE, name) for name in names])
    logits = _LOGIT_SCALE * cosines(picture[0], texts)
    likely = np.exp(logits - logits.max())
    return formats.classes(likely / likely.sum(), names)


def labels(question: Question) -> list[str]:
    """The candidate labels, a list or one comma-separated text, whose empty parts are dropped.

    Raises InvalidParameter.
    """
    value, most = question.asked.parameters.get("candidate_labels"), question.service.settings.max_texts
    if not isinstance(value, str | list):
        raise InvalidParameter("'candidate_labels' must be a list of texts.")
    count = value.count(",") + 1 if isinstance(value, str) else len(value)
    if not 1 <= count <= most:
        raise InvalidParameter(f"'candidate_labels' may hold 1 to {most} texts, not {count}.")
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not all(isinstance(name, str) for name in value):
        raise InvalidParameter("'candidate_labels' must be a list of texts.")
    if not all(name.strip() for name in value):
        raise InvalidParameter("One of the 'candidate_labels' is empty.")
    if not value:
        raise InvalidParameter(f"'candidate_labels' may hold 1 to {most} texts, not 0.")
    if len(set(value)) < len(value):
        raise InvalidParameter("'candidate_labels' names something twice.")
    return value


# ---- features --------------------------------------------------------------------------------------------------------


async def picture_features(question: Question) -> np.ndarray:
    """float32 ``[1,D]``: the one vector of the whole picture, as long as the network makes it or, normalized, 1.

    That of a classifier is what its last layer reads.
    """
    given = question.given(_NORMALIZE, _POOL)
    if not given["pool"]:
        raise InvalidParameter("Models of this server give one vector a picture.", hint="Leave 'pool' out.")
    await question.loaded()
    answered = await features.vectors(question.request, question.manifest, [question.picture])
    return _scaled(answered.results[0], given["normalize"])


async def text_features(question: Question) -> np.ndarray:
    """float32 ``[n,D]``, a row a text. A text that is too long is refused, or cut with ``truncate``."""
    given = question.given(_NORMALIZE, _ENCODING, tasks.TRUNCATE, _DIRECTION)
    value = question.asked.inputs
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list):
        raise InvalidParameter("'inputs' must be a text or a list of texts.")
    most = question.service.settings.max_texts
    if not 1 <= len(texts) <= most:
        raise InvalidParameter(f"One request may hold 1 to {most} texts, not {len(texts)}.")
    if not all(isinstance(text, str) for text in texts):
        raise InvalidParameter("'inputs' must be a text or a list of texts.")
    await question.loaded()
    cut = {tasks.TRUNCATE.name: True} if given["truncate"] else {}
    return _scaled(await _texts(question, texts, **cut), given["normalize"])


async def _texts(question: Question, texts: Sequence[str], **more: bool) -> np.ndarray:
    samples = [{"text": text.encode()} for text in texts]
    answered = await question.service.ask_samples(
        question.request, question.manifest, samples, question.settings() | more, role="text"
    )
    return np.concatenate(answered.results)


def _scaled(vectors: np.ndarray, normalize: bool) -> np.ndarray:
    if not normalize:
        return vectors
    return directions(vectors).astype(np.float32)


# ---- what a model writes ---------------------------------------------------------------------------------------------


async def read_line(question: Question) -> list[dict[str, str]] | dict[str, str]:
    """The text of a picture that shows one line."""
    answered = await question.about_picture(**_generation(question))
    return _generated(question, answered.results[0])


async def read_page(question: Question) -> list[dict[str, str]] | dict[str, str]:
    """The text of a page: words with spaces, lines with line breaks, blocks with empty lines between them."""
    text, _ = (await question.about_picture()).results[0]
    return _generated(question, text)


async def describe(question: Question) -> list[dict[str, str]] | dict[str, str]:
    """The text generated for the picture; ``prompt`` is a field of our own."""
    prompt = question.asked.parameters.get("prompt", _CAPTIONS.get(question.manifest.grounding, _PROMPT))
    return _generated(question, await _write(question, prompt, "prompt"))


async def locate(question: Question) -> list[dict[str, Any]]:
    """The boxes that a model writes of all objects, by their names. They are written, not scored: each has score 1."""
    asking = _Asking(question)
    return formats.boxes(*detections(await asking.places("<OD>"), *asking.size))


async def locate_named(question: Question) -> list[dict[str, Any]]:
    """The boxes that a model writes of the candidate labels, in the words of its family. Each has score 1."""
    names, given = labels(question), question.given(_THRESHOLD, _TOP_K)
    prompts, asking = naming.prompts(question.manifest.grounding, names), _Asking(question)
    if len(prompts) > _MOST_PROMPTS:
        raise InvalidParameter(
            f"'{question.manifest.id}' looks for one label at a time, for at most {_MOST_PROMPTS} a request, "
            f"not {len(prompts)}."
        )
    found = [place for text, some in prompts for place in naming.named(await asking.places(text), some)]
    return formats.boxes(*detections(found, *asking.size))[: given["top_k"]]


class _Asking:
    """Prompts about the one picture of a request, which is read once.

    Attributes:
        size: (width, height) of the picture as it is shown, once a prompt was answered.
    """

    def __init__(self, question: Question):
        self._question, self._picture = question, b""
        self.size = 1, 1

    async def places(self, prompt: str) -> list[Grounded]:
        """What the answer to a prompt says of places. Raises as :meth:`Service.chat`."""
        manifest = self._question.manifest
        convention = Convention(manifest.grounding, manifest.grounding_pixels)
        said = await _write(self._question, prompt, "prompt", self._read)
        return located(convention, tasks.about_picture(prompt), self.size, said)

    async def _read(self, reservation: ByteReservation) -> bytes:
        if not self._picture:
            self._picture = await self._question.picture(reservation)
            self.size = await in_thread(shown_size, self._picture)
        return self._picture


async def answer_question(question: Question) -> list[dict[str, Any]]:
    """One answer, for any ``top_k``. It is generated, not chosen from a list, so its score is always 1."""
    said = await _write(question, question.asked.question, "question")
    return [{"answer": said, "score": 1.0}]


async def answer_of_page(question: Question) -> list[dict[str, Any]]:
    """As :func:`answer_question`. The model reads the page itself, so there are no words among which the answer begins
    and ends, and ``word_boxes`` and the other settings of a recogniser change nothing.
    """
    if question.asked.question is None:
        raise InvalidParameter("A page is asked about: 'inputs' needs a 'question'.")
    return await answer_question(question)


async def _write(question: Question, prompt: Any, name: str, read: Read | None = None) -> str:
    if not isinstance(prompt, str) or not prompt.strip():
        raise InvalidParameter(f"'{name}' must be a text.")
    settings, picture = question.settings(**_generation(question)), read or question.picture
    messages = tasks.about_picture(prompt)
    await question.loaded()
    pieces = question.service.chat(question.request, question.manifest, messages, [picture], settings)
    return answered("".join([piece.text async for piece in pieces]))


def _generation(question: Question) -> dict[str, Any]:
    """The model's settings that the request has under ``generation_parameters``. Raises InvalidParameter."""
    given = question.asked.parameters
    inner = given.get("generation_parameters", given.get("generate_kwargs", {}))
    if not isinstance(inner, dict):
        raise InvalidParameter("'generation_parameters' must be an object.")
    merged = dict(inner)
    for name in ("max_answer_len", "max_new_tokens"):  # the first is document question answering's
        if name in given:
            merged["max_new_tokens"] = given[name]
    if merged.get("do_sample") is False:
        merged.pop("temperature", None)
    elif merged.get("do_sample") is True:
        merged.setdefault("temperature", 1.0)
    known = {p.name for p in tasks.TASKS[question.manifest.task].parameters} - {tasks.AUTO_ORIENT.name}
    return {name: value for name, value in merged.items() if name in known}


def _repeats(question: Question) -> bool:
    """Whether the text is deterministic: not if tokens are sampled without a seed."""
    given = _generation(question)
    return not given.get("temperature") or given.get("seed") is not None


def _reads_tasks(manifest: Manifest) -> bool:
    return manifest.grounding == florence.NAME


def _finds_names(manifest: Manifest) -> bool:
    return bool(naming.prompts(manifest.grounding, [""]))


def _generated(question: Question, text: str) -> list[dict[str, str]] | dict[str, str]:
    answer = {"generated_text": text}
    return answer if question.javascript else [answer]


# ---- the tasks: of those that one model answers, the first that fits -------------------------------------------------

_WRITES = ("max_new_tokens", "max_answer_len", "generation_parameters", "generate_kwargs", "prompt")

# Before the classifiers' own task: a request for it names it, and their first task stays what they are called after.
FEATURES_OF_CLASSIFIERS = Task(
    "image-feature-extraction", (tasks.CLASSIFICATION.name,), picture_features, lambda *_: False,
    reads=(_NORMALIZE, _POOL),
)  # fmt: skip

TASKS = (
    Task(
        "zero-shot-object-detection", (tasks.OPEN_VOCABULARY.name,), detect,
        reads=("candidate_labels", _THRESHOLD, _TOP_K),
    ),
    Task(
        "zero-shot-image-classification", (tasks.EMBEDDING.name,), classify,
        lambda asked, _: "candidate_labels" in asked.parameters, reads=("candidate_labels", "hypothesis_template"),
    ),
    Task(
        "feature-extraction", (tasks.EMBEDDING.name,), text_features,
        lambda asked, pictures: asked.is_text(pictures), reads=(_NORMALIZE, _ENCODING, tasks.TRUNCATE), of_texts=True,
    ),
    Task("image-feature-extraction", (tasks.EMBEDDING.name,), picture_features, reads=(_NORMALIZE, _POOL)),
    Task(
        "zero-shot-object-detection", (tasks.VLM.name,), locate_named,
        lambda asked, _: "candidate_labels" in asked.parameters,
        reads=("candidate_labels", _THRESHOLD, _TOP_K, *_WRITES[:-1]), keeps=_repeats, of=_finds_names,
    ),
    Task(
        "visual-question-answering", (tasks.VLM.name,), answer_question, lambda asked, _: asked.question is not None,
        reads=_WRITES, keeps=_repeats,
    ),
    Task(
        "document-question-answering", (tasks.VLM.name,), answer_of_page, lambda *_: False, reads=_WRITES[:-1],
        keeps=_repeats,
    ),
    Task(
        "object-detection", (tasks.VLM.name,), locate, lambda *_: False, reads=_WRITES[:-1], keeps=_repeats,
        of=_reads_tasks,
    ),
    Task("image-to-text", (tasks.VLM.name,), describe, reads=_WRITES, keeps=_repeats),
    Task("image-to-text", (tasks.TEXT_OCR.name,), read_line, reads=_WRITES),
    Task("image-to-text", (tasks.STRUCTURED_OCR.name,), read_page),
)  # fmt: skip
