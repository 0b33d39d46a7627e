"""Open vocabulary: objects in a picture that match texts, or boxes in other pictures (OWLv2).

Pictures and texts are encoded separately and compared by a dot product. So the encoding of a picture is cached for all
processes of a server, whether it is searched or shows examples, and that of a text for its process. The arithmetic is
that of transformers' ``Owlv2ForObjectDetection`` and ``Owlv2Processor``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import tokenizers

from tritonvision import tasks
from tritonvision.errors import InvalidParameter
from tritonvision.pictures import decode, shown_size
from tritonvision.python_backend.images import padded_square, total
from tritonvision.python_backend.runtime import encoding_cache
from tritonvision.python_backend.runtime.networks import Call
from tritonvision.python_backend.vocabulary import example_queries
from tritonvision.python_backend.vocabulary.selection import class_names, select
from tritonvision.python_backend.vocabulary.text_encodings import TextEncodings

TASK = tasks.OPEN_VOCABULARY
TOKENIZER = "tokenizer.json"
MOST_CLASSES = 1000
_LONGEST_TEXT = 1000  # characters; 16 tokens have about a hundred, more only with repeated blanks
_ENCODING = ("boxes", "class_embeds", "shift", "scale")


@dataclass(frozen=True)
class Encoding:
    """Outputs of the image network for one picture.

    Attributes:
        boxes: float32 ``[N,4]`` corners as fractions of the padded square.
        class_embeds: float32 ``[N,D]``, not normalised.
        shift, scale: float32 ``[N]``: the logit of a box and a class is ``(similarity + shift) * scale``.
        size: height and width of the picture.
    """

    boxes: np.ndarray
    class_embeds: np.ndarray
    shift: np.ndarray
    scale: np.ndarray
    size: tuple[int, int]


class Composition:
    """Boxes of classes that come with the request.

    Args:
        call: runs the networks ``image`` and ``text``.
        options: ``side``, pixels of the encoder's square; ``context``, tokens of a text; ``assets`` with
            ``tokenizer.json``; ``model``, which tells the encodings of one network from those of another.
        cache: of encodings; by default the server's.
    """

    def __init__(self, call: Call, options: Mapping[str, Any], cache: encoding_cache.SharedCache | None = None):
        cv2.setNumThreads(1)
        self._call = call
        self._side, self._context = int(options["side"]), int(options["context"])
        self._model = str(options.get("model", ""))
        self._tokenizer = tokenizers.Tokenizer.from_str(options["assets"][TOKENIZER].decode())
        self._cache = cache or encoding_cache.of_server("encodings")
        self._texts = TextEncodings(call)

    def answer(
        self, sample: Mapping[str, Any], parameters: Mapping[str, Any], wanted: set[str] | None = None
    ) -> dict[str, np.ndarray]:
        """What texts or examples describe, best first.

        Args:
            sample: ``image``, an encoded picture or ``.npy`` bytes; ``examples``, objects ``[n]`` of such, when boxes
                in them say what to look for.
            parameters: settings of the task, resolved: either ``texts`` or ``example_boxes``.
            wanted: names of outputs; all cost the same.

        Returns:
            As :func:`tritonvision.python_backend.vocabulary.selection.select`.

        Raises:
            InvalidParameter: nothing to look for, or what does not fit together.
            InvalidPicture, PictureTooLarge: one of the pictures is none, or they are too much together.
        """
        auto_orient = parameters["auto_orient"]
        pictures = list(np.asarray(sample.get("examples", ()), dtype=object).reshape(-1))
        examples = example_queries.read(parameters, len(pictures), MOST_CLASSES)
        if examples:
            used = [pictures[index] for index in sorted({one.picture for one in examples})]
            total.check(shown_size(bytes(data), auto_orient) for data in (sample["image"], *used))
            queries = self._of_examples(pictures, examples, auto_orient)
        else:
            texts = class_names(parameters, MOST_CLASSES)
            queries = self._texts([self._tokens(index, text) for index, text in enumerate(texts)])
        found = self._encoding(sample["image"], auto_orient)
        similar, possible = _normalised(found.class_embeds) @ _normalised(queries).T, np.array(True)
        if examples:
            similar, possible = example_queries.by_class(similar, examples)
        logits = np.where(possible, (similar + found.shift[:, None]) * found.scale[:, None], -np.inf)
        return select(found.boxes * np.float32(max(found.size)), _sigmoid(logits), found.size, parameters)

    def _encoding(self, image: bytes, auto_orient: bool) -> Encoding:
        """From the cache, or computed."""
        data = bytes(image)
        facts = f"{self._model} {auto_orient} ".encode()
        key = hashlib.sha256(facts + hashlib.sha256(data).digest()).hexdigest()
        *tensors, size = self._cache.fetch(key, lambda: self._encode(data, auto_orient))
        boxes, class_embeds, shift, scale = tensors
        return Encoding(boxes, class_embeds, shift, scale, (int(size[0]), int(size[1])))

    def _encode(self, data: bytes, auto_orient: bool) -> tuple[np.ndarray, ...]:
        picture = decode(data, auto_orient)
        found = self._call("image", {"pixels": padded_square.resize(picture, self._side)[None]}, _ENCODING)
        return (*(found[name][0] for name in _ENCODING), np.array(picture.shape[:2], dtype=np.int64))

    def _tokens(self, index: int, text: str) -> np.ndarray:
        """int64 ``[context]``: start, text, end, zeros. The library's processor would not cut a longer one, either.

        Raises:
            InvalidParameter: it does not fit.
        """
        ids = self._tokenizer.encode(text).ids if len(text) <= _LONGEST_TEXT else None
        if ids is None or len(ids) > self._context:
            raise InvalidParameter(
                f"The text of class {index} is longer than {self._context - 2} tokens, all that the model reads.",
                hint="Shorten it; a token is a short word or a part of a longer one.",
            )
        padded = np.zeros(self._context, dtype=np.int64)
        padded[: len(ids)] = ids
        return padded

    def _of_examples(
        self, pictures: Sequence[bytes], examples: Sequence[example_queries.Example], auto_orient: bool
    ) -> np.ndarray:
        """float32 ``[E,D]``, one of each. Raises InvalidParameter for a box outside its picture."""
        shown = {index: self._encoding(pictures[index], auto_orient) for index in {one.picture for one in examples}}
        embeds = []
        for example in examples:
            seen = shown[example.picture]
            embeds.append(example_queries.shown_by(example.box, seen.size, seen.boxes, seen.class_embeds))
        return np.stack(embeds)


def _normalised(vectors: np.ndarray) -> np.ndarray:
    return vectors / (np.linalg.norm(vectors, axis=-1, keepdims=True) + np.float32(1e-6))


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-logits))
