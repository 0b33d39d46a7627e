"""Golden questions: a picture or a text that a model was asked when it was published, its answer, and what each stage
behind the answer (pre, network, post) made of it. Whoever loads the model asks again and compares.

They lie in the folder ``golden`` of the public model: ``golden.json``, the encoded picture or pictures, and one
``.npz`` a stage, which holds numbers and byte strings and no pickles. The manifest has their sha256.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from tritonvision.differences import agreement, differences, precision_bars
from tritonvision.errors import BrokenModel
from tritonvision.publication import Manifest

FOLDER, INDEX = "golden", "golden.json"
ANSWER = "answer"  # the stage that is the entry point itself
LABELS = "labels"  # what the manifest says of the answer: no tensor, compared by its digest
_MOST = 4096  # values of one output that are kept
_STRIDE = 2654435761  # prime: spreads positions evenly over any size
_LARGE = 1 << 16  # bytes from which on the floats of an input are rounded to 8 bits, so that they compress
_IN, _OUT = "in/", "out/"

Tensors = dict[str, np.ndarray]


@dataclass(frozen=True)
class Stage:
    """One Triton model, what it was asked, and what it answered.

    Attributes:
        name: ``answer``, ``pre``, ``network`` (with a role behind it where there are several) or ``post``.
        model: Triton's name of it; empty for the entry point itself.
        kind: how its outputs are compared, see :mod:`tritonvision.differences`.
        bars: the largest allowed difference of each output.
        file: of its tensors.
        pictures: files that are the input ``image``, in order.
        sampled: shapes of the outputs of which only some values are kept.
        decoupled: whether it answers with many responses.
    """

    name: str
    model: str
    kind: str
    bars: Mapping[str, float]
    file: str
    pictures: tuple[str, ...] = ()
    sampled: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    decoupled: bool = False

    def compare(
        self, got: Mapping[str, np.ndarray], want: Mapping[str, np.ndarray], exact: bool = True,
        measured: Mapping[str, float] = MappingProxyType({}),
    ) -> Figures:  # fmt: skip
        """How far ``got`` is from the outputs that were recorded.

        Args:
            exact: whether the arithmetic is the same; a reduced precision has bars of its own.
            measured: of a reduced precision, what it was found to be before.
        """
        kept = {name: sample(value) if self._fits(name, value) else value for name, value in got.items()}
        if exact:
            return Figures(self.name, self.model, differences(self.kind, kept, want, self.bars), self._all_bars())
        found, bars = agreement(self.kind, kept, want), precision_bars(measured)
        return Figures(self.name, self.model, found, {name: bars[name] for name in found})

    def _fits(self, name: str, value: np.ndarray) -> bool:
        return name in self.sampled and value.shape == tuple(self.sampled[name])

    def _all_bars(self) -> dict[str, float]:
        return {"missing": 0.0, **self.bars}


@dataclass(frozen=True)
class Figures:
    """What a stage was found to be.

    Attributes:
        found: the largest difference of each output, by name.
        bars: the largest allowed one.
        failure: what went wrong in place of an answer, or empty.
    """

    stage: str
    model: str
    found: Mapping[str, float] = field(default_factory=dict)
    bars: Mapping[str, float] = field(default_factory=dict)
    failure: str = ""

    @property
    def passed(self) -> bool:
        """Whether everything is within its bar; what is no number is not."""
        return not self.failure and all(value <= self.bars[name] for name, value in self.found.items())

    @property
    def why(self) -> str:
        """What drifts most, in units of its bar, in words; empty where nothing does."""
        if self.failure:
            return self.failure
        over = [name for name, value in self.found.items() if not value <= self.bars[name]]
        return ", ".join(f"{name} {self.found[name]:.3g} > {self.bars[name]:.3g}" for name in over)


@dataclass(frozen=True)
class Question:
    """What one entry point was asked: the answer first, then the stages behind it in the order of a request."""

    role: str
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class Golden:
    """All golden questions of a model.

    Attributes:
        facts: digest of what the manifest says of the answers, see :func:`facts_of`.
    """

    folder: Path
    facts: str
    questions: tuple[Question, ...]

    def load(self, stage: Stage) -> tuple[Tensors, Tensors]:
        """The inputs and the recorded outputs of a stage. Raises BrokenModel where they cannot be read."""
        try:
            with np.load(self.folder / stage.file, allow_pickle=False) as stored:
                found = {name: stored[name] for name in stored.files}
            pictures = [(self.folder / name).read_bytes() for name in stage.pictures]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise BrokenModel("The golden answer of the model cannot be read.", hint="Publish it again.") from error
        inputs = {name.removeprefix(_IN): value for name, value in found.items() if name.startswith(_IN)}
        outputs = {name.removeprefix(_OUT): value for name, value in found.items() if name.startswith(_OUT)}
        if pictures:
            inputs["image"] = strings(pictures, (len(pictures),) if stage.decoupled else (1, len(pictures)))
        return inputs, outputs


def facts_of(manifest: Manifest) -> str:
    """sha256 of what the manifest says of the answers: names of classes and key points, the meaning of numbers."""
    facts = [
        manifest.task, manifest.head, manifest.labels, manifest.keypoint_labels, manifest.multi_label,
        manifest.map_meaning,
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(facts, ensure_ascii=False).encode()).hexdigest()


def check_facts(golden: Golden, manifest: Manifest) -> Figures:
    """Whether the manifest says of the answers what it said when they were recorded."""
    other = "The names of the classes are not those that were published."
    return Figures(LABELS, "", failure="" if golden.facts == facts_of(manifest) else other)


def read(root: Path, manifest: Manifest) -> Golden | None:
    """The golden questions of a published model, or None: it was published before there were any, or is a user's code
    that gave no answer twice.

    Raises:
        BrokenModel: they cannot be read.
    """
    name = f"{manifest.triton_name}/{FOLDER}/{INDEX}"
    if name not in manifest.files:
        return None
    path = root / name
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        questions = tuple(
            Question(question["role"], tuple(_stage(stage) for stage in question["stages"]))
            for question in data["questions"]
        )
        return Golden(path.parent, data["facts"], questions)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BrokenModel("The golden answer of the model cannot be read.", hint="Publish it again.") from error


def _stage(data: Mapping[str, Any]) -> Stage:
    sampled = {name: tuple(shape) for name, shape in data["sampled"].items()}
    return Stage(**{**data, "pictures": tuple(data["pictures"]), "sampled": sampled})


@dataclass(frozen=True)
class Recorded:
    """A stage with its tensors, before it is written.

    Attributes:
        inputs: without ``image`` where ``pictures`` are given.
        pictures: encoded, by file name.
    """

    stage: Stage
    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]
    pictures: Mapping[str, bytes] = field(default_factory=dict)


def files_of(manifest: Manifest, questions: Mapping[str, Sequence[Recorded]]) -> dict[str, bytes]:
    """The files of the folder, by name.

    Args:
        questions: the stages of each entry point, by role.
    """
    files: dict[str, bytes] = {}
    index = []
    for role, recorded in questions.items():
        stages = []
        for one in recorded:
            files |= one.pictures
            outputs = {name: value for name, value in one.outputs.items()}
            large = {n: v.shape for n, v in outputs.items() if v.size > _MOST and v.dtype.kind not in "OS"}
            outputs |= {name: sample(outputs[name]) for name in large}
            arrays = {_IN + n: _storable(v) for n, v in one.inputs.items()}
            arrays |= {_OUT + n: _storable(v) for n, v in outputs.items()}
            files[one.stage.file] = _npz(arrays)
            stages.append(asdict(one.stage) | {"pictures": tuple(one.pictures), "sampled": large})
        index.append({"role": role, "stages": stages})
    text = json.dumps({"version": 1, "facts": facts_of(manifest), "questions": index}, indent=1)
    files[INDEX] = (text + "\n").encode()
    return files


def sample(values: np.ndarray) -> np.ndarray:
    """Some of the values, at positions that follow from their number: ``[4096]``."""
    flat = values.reshape(-1)
    return flat[np.arange(_MOST, dtype=np.uint64) * np.uint64(_STRIDE) % np.uint64(flat.size)]


def rounded(values: np.ndarray) -> np.ndarray:
    """Large float32 arrays with 8 bits of mantissa, which compress: an input may be any."""
    if values.dtype != np.float32 or values.nbytes < _LARGE:
        return values
    return (np.ascontiguousarray(values).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def strings(values: Sequence[bytes], shape: tuple[int, ...]) -> np.ndarray:
    """Byte strings as Triton has them: objects of that shape."""
    array = np.empty(len(values), dtype=object)
    array[:] = list(values)
    return array.reshape(shape)


def _storable(values: np.ndarray) -> np.ndarray:
    """Byte strings as numpy's own, which need no pickle; none of ours ends with a zero byte."""
    return values.astype(np.bytes_) if values.dtype.kind == "O" else values


def _npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()
