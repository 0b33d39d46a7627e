"""Golden questions recorded at publishing: what the proven graphs answer in this process, and each stage of it.

The bars are those of the gate: the tolerances of the family, or what the gate measured where it let more pass.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from tritonvision import differences as kinds
from tritonvision import golden
from tritonvision.ensembles import model_configs
from tritonvision.ensembles.entry_points import Chain, EntryPoint, Net, TextPreprocess
from tritonvision.ensembles.in_process import LocalChat, LocalComposition, LocalPipeline
from tritonvision.exporters.contract import Tensors, Tolerance, kind
from tritonvision.exporters.parity.checks.base import ParityCheck
from tritonvision.golden import ANSWER, Recorded, Stage, rounded, strings
from tritonvision.pictures import decode
from tritonvision.publication import Manifest
from tritonvision.python_backend.images.resize import Geometry
from tritonvision.tasks import resolve

Local = LocalPipeline | LocalComposition | LocalChat

_KINDS = {
    "dense-boxes": kinds.ROWS, "query-boxes": kinds.ROWS, "keypoints": kinds.ROWS, "prototype-masks": kinds.ROWS,
    "phrase-grounding": kinds.ROWS, "open-vocabulary": kinds.ROWS, "text-guided-boxes": kinds.ROWS,
    "classes": kinds.CLASSES, "dense-map": kinds.MAP,
}  # fmt: skip
# Heads whose candidates come out of a TopK; compositions may have other networks, without scores, besides.
_SETS = {"dense-boxes", "query-boxes", "prototype-masks", "text-guided-boxes"}
_SHARED = {"prototypes"}
_BEST = 100  # candidates of a network that are kept
_GIVEN = 300  # candidates that a post step is asked about
_TIES = 2.0  # of those, how many may be of another class that scores nearly the same
# Whose limit of the tolerance an output of the public model has; the others are compared exactly.
_LIMITS = {
    "boxes": "pixels", "polygons": "pixels", "keypoints": "pixels", "scores": "scores", "masks": "masks", "map": "map",
    "orientation": "degrees", "yaw": "degrees", "pitch": "degrees", "token_ids": "tokens", "text": "words",
    "texts": "words",
}  # fmt: skip
_EXACT = {"class_ids", "object_ids", "parents", "image_size", "usage", "finish_reason", "range"}
# Of a pre step: two of 256 levels, which decoders and filters of another processor may differ by; map and sizes agree.
_LEVELS, _GEOMETRY = 2.0, 1e-6


def record(
    points: Sequence[EntryPoint], opened: Mapping[str, Local], checks: Mapping[str, ParityCheck],
    parity: Mapping[str, float], manifest: Manifest,
) -> dict[str, bytes]:  # fmt: skip
    """The files of the folder ``golden`` of a model, by name.

    Args:
        opened: its entry points in this process, by role.
        checks: the parity check of each, by role: it knows what to ask.
        parity: figures of the gate.
    """
    questions = {}
    for point in points:
        owner = point.net.role if isinstance(point, Chain) else point.role  # of the network that it asks
        bars = _Bars(checks[point.role].tolerance, parity, f"{owner}_" if owner else "")
        recorder = _Recorder(manifest.triton_name, point, checks[point.role], bars)
        local = opened[point.role]
        if isinstance(local, LocalPipeline):
            questions[point.role] = recorder.chain(local)
        elif isinstance(local, LocalComposition):
            questions[point.role] = recorder.composition(local)
        else:
            questions[point.role] = recorder.chat(local)
    return golden.files_of(manifest, questions)


@dataclass(frozen=True)
class _Bars:
    """How far outputs may drift.

    Attributes:
        prefix: of the figures in ``parity`` of the entry point's network.
    """

    tolerance: Tolerance
    parity: Mapping[str, float]
    prefix: str

    def of_network(self, outputs: Tensors) -> dict[str, float]:
        """Of a network's outputs: what the gate allowed them, or let pass."""
        return {name: self._tensor(name, values) for name, values in outputs.items()}

    def of_answer(self, outputs: Tensors) -> dict[str, float]:
        """Of the outputs of the public model that are compared; what is absent is not."""
        found = {}
        for name, values in outputs.items():
            if name in _EXACT:
                found[name] = 0.0
            elif name in ("embeddings", "low_res_masks"):  # the network's own
                found[name] = self._tensor(name, values)
            elif name in _LIMITS:
                found[name] = self._answer(name, outputs)
        return found

    def _tensor(self, name: str, values: np.ndarray) -> float:
        measured = self.parity.get(f"{self.prefix}tensor_{kind(name)}", 0.0)
        limit = max(self.tolerance.tensor(name), measured)
        return limit * (float(np.abs(values).max(initial=0)) if self.tolerance.is_relative(name) else 1.0)

    def _answer(self, name: str, outputs: Tensors) -> float:
        limit = float(self.tolerance.answer(_LIMITS[name]))
        if name == "map":  # relative to the largest value
            return limit * max(float(np.abs(outputs["range"]).max()), 1e-30)
        return float(np.radians(limit)) if name in ("yaw", "pitch") else limit


@dataclass(frozen=True)
class _Recorder:
    """The stages of one entry point."""

    name: str
    point: EntryPoint
    check: ParityCheck
    bars: _Bars

    def chain(self, local: LocalPipeline) -> list[Recorded]:
        """Pre step, network, post step, and all of them; of a text there is no post step."""
        chain = self.point
        assert isinstance(chain, Chain)
        sample, given, pictures, asked = self._question(local)
        inputs, geometry = local.inputs(sample)
        fed = {name: value[None] for name, value in inputs.items()}
        emitted = local.tensors(fed)
        told = {} if geometry is None else {"geometry": geometry.to_array()[None]}
        stages = [
            self._stage("pre", chain.pre.triton_name, kinds.VALUES, self._of_pre(chain, {**fed, **told}), asked,
                        {**fed, **told}, pictures),
            self._network(chain.net, fed, emitted),
        ]  # fmt: skip
        if geometry is None:
            answer = emitted
        else:
            stages.append(self._post(chain, emitted, geometry, given))
            answer = _answered(chain, emitted, geometry, given)
        return [self._answer(answer, asked, pictures), *stages]

    def composition(self, local: LocalComposition) -> list[Recorded]:
        """The answer, and what each network said when it was asked first; those in its own process cannot be asked."""
        calls: dict[str, tuple[Tensors, Tensors]] = {}
        sample, given, pictures, asked = self._question(local)
        local.watch = lambda role, inputs, found: calls.setdefault(role, (dict(inputs), dict(found)))
        found = local(sample, given)
        local.watch = None
        stages = []
        if not model_configs.embedded(self.point):
            nets = {net.role: net for net in self.point.nets}
            stages = [self._rerun(nets[role], local, inputs, found) for role, (inputs, found) in calls.items()]
        answer = {name: np.asarray(value)[None] for name, value in found.items()}
        return [self._answer(answer, asked, pictures), *stages]

    def chat(self, local: LocalChat) -> list[Recorded]:
        """The answer: its networks are in its own process."""
        sample, given, pictures, asked = self._question(local)
        found = local(sample, given)
        answer = {name: np.asarray(value) for name, value in found.items()}
        answer["text"], answer["finish_reason"] = (
            strings([str(answer[name][0]).encode()], (1,)) for name in ("text", "finish_reason")
        )
        del asked["image"]
        asked["messages"] = strings([json.dumps(sample["messages"]).encode()], (1,))
        asked["parameters"] = asked["parameters"].reshape(1)
        return [self._answer(answer, asked, pictures, decoupled=True)]

    def _question(self, local: Local) -> tuple[Any, dict[str, Any], dict[str, bytes], dict[str, np.ndarray]]:
        """What is asked: the sample as ``local`` takes it, settings, encoded pictures by file name, Triton's inputs."""
        asked: Any = self.check.golden_sample()
        sample: Any
        prefix = f"{self.point.role}-" if self.point.role else ""
        pictures: dict[str, bytes]
        inputs: dict[str, Any] = {"image": None}
        if isinstance(asked, str):
            sample, pictures = asked, {}
            inputs = {"text": strings([asked.encode()], (1, 1))}
        elif isinstance(local, LocalChat):
            pictures = {f"{prefix}question-{i}.png": _encoded(p, "PNG") for i, p in enumerate(asked["pictures"])}
            sample = asked | {"pictures": [decode(data) for data in pictures.values()]}
        else:
            form = self.check.golden_format
            data = _encoded(asked, form)
            pictures = {f"{prefix}question.{form.lower()}": data}
            sample = {"image": data} if isinstance(local, LocalComposition) else decode(data)
        given = self.check.golden_settings(lambda **settings: local(sample, settings))
        inputs["parameters"] = _settings(given)
        return sample, given, pictures, inputs

    def _answer(
        self, outputs: Tensors, asked: Tensors, pictures: Mapping[str, bytes], decoupled: bool = False
    ) -> Recorded:
        bars = self.bars.of_answer(outputs)
        if self.point.name != "embeddings":
            bars.pop("embeddings", None)  # an encoding that some compositions hand out besides
        compared = {name: value for name, value in outputs.items() if name in bars}
        form = _KINDS.get(self.point.name, kinds.VALUES)
        return self._stage(ANSWER, "", form, bars, asked, compared, pictures, decoupled)

    def _network(self, net: Net, inputs: Tensors, outputs: Tensors) -> Recorded:
        name = f"network {net.role}" if net.role and net.role != self.point.role else "network"
        model, bars, form = model_configs.net_name(self.name, net.role), self.bars.of_network(outputs), kinds.VALUES
        if self.point.name in _SETS and "scores" in outputs:
            form, bars = kinds.CANDIDATES, bars | {kinds.MISSING: _TIES}
            outputs = {n: v if n in _SHARED else v[:, :_BEST] for n, v in outputs.items()}
        return self._stage(name, model, form, bars, inputs, outputs)

    def _rerun(self, net: Net, local: LocalComposition, inputs: Tensors, outputs: Tensors) -> Recorded:
        """A network of a composition, on what it was asked or, where that is large, on rounded numbers."""
        given = {name: rounded(value) for name, value in inputs.items()}
        if any(given[name] is not inputs[name] for name in inputs):
            outputs = local.nets[net.role].tensors(given)
        return self._network(net, given, outputs)

    def _post(self, chain: Chain, emitted: Tensors, geometry: Geometry, given: Mapping[str, Any]) -> Recorded:
        read = {tensor.name: emitted[tensor.name] for tensor in chain.head.tensors}
        few = {n: v[:, :_GIVEN] if chain.name in _SETS and n not in _SHARED else v for n, v in read.items()}
        few = {name: rounded(value) for name, value in few.items()}
        answer = _answered(chain, few, geometry, given)
        asked = {**few, "geometry": geometry.to_array()[None], "parameters": _settings(given)}
        form = _KINDS.get(chain.name, kinds.VALUES)
        return self._stage("post", chain.head.triton_name, form, self.bars.of_answer(answer), asked, answer)

    @staticmethod
    def _of_pre(chain: Chain, outputs: Tensors) -> dict[str, float]:
        if isinstance(chain.pre, TextPreprocess):
            return dict.fromkeys(outputs, 0.0)
        level = _LEVELS / 255 if outputs["pixels"].dtype.kind == "f" else _LEVELS
        return {name: level if name == "pixels" else _GEOMETRY for name in outputs}

    def _stage(
        self, name: str, model: str, form: str, bars: Mapping[str, float], inputs: Tensors, outputs: Tensors,
        pictures: Mapping[str, bytes] | None = None, decoupled: bool = False,
    ) -> Recorded:  # fmt: skip
        file = f"{self.point.role + '-' if self.point.role else ''}{name.replace(' ', '-')}.npz"
        inputs = {n: v for n, v in inputs.items() if n != "image"}
        outputs = {n: v for n, v in outputs.items() if n in bars or n == "range"}
        return Recorded(Stage(name, model, form, bars, file, decoupled=decoupled), inputs, outputs, pictures or {})


def _answered(chain: Chain, emitted: Tensors, geometry: Geometry, given: Mapping[str, Any]) -> Tensors:
    """The public outputs, batch axis first, as the post step gives them."""
    settings = resolve(chain.head.task.parameters, given)
    outputs = chain.head.postprocessor({n: v[0] for n, v in emitted.items()}, geometry, settings)
    outputs["image_size"] = np.array([geometry.height, geometry.width], dtype=np.int32)
    return {name: np.asarray(value)[None] for name, value in outputs.items()}


def _settings(given: Mapping[str, Any]) -> np.ndarray:
    """Triton's input ``parameters`` of one sample."""
    return strings([json.dumps(given).encode()], (1, 1))


def _encoded(picture: np.ndarray, form: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, form, quality=85)
    return stream.getvalue()


