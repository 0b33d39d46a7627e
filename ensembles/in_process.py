"""Published models in one process: the same pre, post and composition functions around the engines, without Triton.

The parity gate measures them against the reference pipeline, the benchmarks take them as the limit that serving is
compared with.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from tritonvision.ensembles.entry_points import Chain, Chat, Composition, EntryPoint, Net, TextPreprocess
from tritonvision.ensembles.model_configs import TOKENIZER
from tritonvision.ensembles.preprocessing import Resize
from tritonvision.ensembles.schemas import Head
from tritonvision.python_backend.generation.engine import VlmEngine
from tritonvision.python_backend.generation.engines import open_engine
from tritonvision.python_backend.runtime.engines import NetworkSession, open_network
from tritonvision.python_backend.runtime.sessions import Sessions
from tritonvision.tasks import resolve

Tensors = dict[str, np.ndarray]
Ask = Callable[[Mapping[str, np.ndarray], Sequence[str]], Tensors]


class LocalNet:
    """One network, on the engine and in the precision that ``net`` names.

    Args:
        graph: the file, in a format that this engine reads.
        threads: for one operator, 0 leaves their number to the engine.
        session: that has opened the graph already.
    """

    def __init__(self, graph: Path, net: Net, threads: int = 0, session: NetworkSession | None = None):
        self.net = net
        self.session = session or open_network(graph, net.engine, net.precision, threads)

    def tensors(self, inputs: Mapping[str, np.ndarray]) -> Tensors:
        """Its outputs for ``inputs``, all with a batch axis first."""
        names = [tensor.name for tensor in self.net.outputs]
        return dict(zip(names, self.session.run(names, dict(inputs)), strict=True))


class LocalPipeline(LocalNet):
    """pre -> net -> post on one sample at a time.

    Args:
        graph: an ONNX file, its inputs are what ``pre`` computes, its outputs the canonical tensors of ``head``.
        assets: files of the pre step, for texts.
        net: how the network runs, where that is not ONNX Runtime.
        session: of an entry point that asks the same network.
    """

    def __init__(
        self, graph: Path, pre: Resize | TextPreprocess, head: Head, threads: int = 0,
        assets: Mapping[str, bytes] | None = None, net: Net | None = None, session: NetworkSession | None = None,
    ):  # fmt: skip
        super().__init__(graph, net or Chain(pre, head).net, threads, session)
        self.resize = pre
        self.head = head
        self._assets = assets or {}

    @cached_property
    def _tokenizer(self):
        from tritonvision.python_backend.vocabulary.clip_tokenizer import Tokenizer

        return Tokenizer(self._assets[TOKENIZER].decode(), self.resize.context)

    def inputs(self, sample: np.ndarray | str) -> tuple[Tensors, Any]:
        """The network's inputs for a sample, without a batch axis, and the geometry (None for a text)."""
        if isinstance(self.resize, TextPreprocess):
            return {"input_ids": self._tokenizer(sample)}, None
        assert not isinstance(sample, str)
        return self.resize.inputs(sample)

    def __call__(self, sample: np.ndarray | str, parameters: Mapping[str, Any] | None = None) -> Tensors:
        """RGB uint8 ``[h,w,3]``, or a text, to the head kind's public outputs, in picture pixels.

        Args:
            parameters: settings of the task; what is absent takes its default. Raises InvalidParameter.
        """
        inputs, geometry = self.inputs(sample)
        tensors = {name: value[0] for name, value in self.tensors({n: v[None] for n, v in inputs.items()}).items()}
        if geometry is None:
            return tensors
        return self.head.postprocessor(tensors, geometry, resolve(self.head.task.parameters, parameters or {}))


class LocalComposition:
    """A composition with its networks beside it in this process.

    Args:
        graphs: the ONNX file of each of its networks, by role.
        models: how to ask the published models it needs, by public id: ``ask(inputs, outputs)``, batch axis first.
        assets: files beside its ``model.py``, by name.

    Attributes:
        watch: told the role, the inputs and the outputs of each question to a network, or None.
    """

    watch: Callable[[str, Mapping[str, np.ndarray], Tensors], Any] | None = None

    def __init__(
        self, graphs: Mapping[str, Path], point: Composition, models: Mapping[str, Ask] | None = None,
        assets: Mapping[str, bytes] | None = None,
    ):  # fmt: skip
        self.point = point
        self.nets = {net.role: LocalNet(graphs[net.role], net) for net in point.nets}
        self._models = models or {}
        name = (point.module or point.name).replace("-", "_")
        module = importlib.import_module(f"tritonvision.python_backend.compositions.{name}")
        self._composition = module.Composition(self._ask, {**dict(point.options), "assets": dict(assets or {})})

    def __call__(self, sample: np.ndarray | Mapping[str, Any], parameters: Mapping[str, Any] | None = None) -> Tensors:
        """A picture, RGB uint8 ``[h,w,3]``, or all inputs by name, to the public outputs.

        Where the entry point remembers, that is a stream that begins; the frames of a whole one are a list, the
        parameters are those of the first, and outputs of any length are those of all frames, one after another.
        """
        if self.point.sequence is None:
            return self._answer(sample, parameters)
        step = self.stream()
        frames = sample if isinstance(sample, list) else [sample]
        found = [step(frame, {} if number else parameters) for number, frame in enumerate(frames)]
        joined = {tensor.name for tensor in self.point.outputs if tensor.dims[0] == -1}
        return {
            name: np.concatenate([one[name] for one in found]) if name in joined else value
            for name, value in found[-1].items()
        }

    def stream(self) -> Callable[..., Tensors]:
        """A sequence that begins, as a function of one sample after another and the parameters of each."""
        return partial(self._answer, state=(self._composition.begin(),))

    def _answer(
        self, sample: np.ndarray | Mapping[str, Any], parameters: Mapping[str, Any] | None = None,
        state: tuple[Any, ...] = (),
    ) -> Tensors:  # fmt: skip
        inputs = dict(sample) if isinstance(sample, Mapping) else {"image": npy(sample)}
        settings = resolve(self.point.task.parameters, parameters or {})
        return self._composition.answer(inputs, settings, {tensor.name for tensor in self.point.outputs}, *state)

    def _ask(self, model: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> Tensors:
        if model in self.nets:
            found = self.nets[model].tensors(inputs)
            if self.watch is not None:
                self.watch(model, inputs, found)
            return {name: found[name] for name in outputs}
        return self._models[model](inputs, outputs)


class LocalChat:
    """A model that generates text, with its networks in this process and one answer at a time.

    Args:
        graphs: the ONNX file of each of its networks, by role.
        assets: files beside its ``model.py``: the tokenizer.
    """

    def __init__(self, graphs: Mapping[str, Path], point: Chat, assets: Mapping[str, bytes]):
        self.point = point
        self.nets = {net.role: LocalNet(graphs[net.role], net) for net in point.nets}
        self.sessions = Sessions.of({role: net.session for role, net in self.nets.items()})
        self._vlm_engine = open_engine(self.sessions, point.module, dict(point.options), assets)

    def __call__(self, sample: Mapping[str, Any], parameters: Mapping[str, Any] | None = None) -> Tensors:
        """``messages`` and ``pictures`` (RGB uint8) to the whole answer: ``token_ids`` int64, ``text``, ``usage``."""
        settings = resolve(self.point.task.parameters, parameters or {})
        deltas = list(self._vlm_engine.talk(sample["messages"], sample["pictures"], settings))
        return {
            "token_ids": np.concatenate([delta.token_ids for delta in deltas]),
            "text": np.array(["".join(delta.text for delta in deltas)], dtype=object),
            "finish_reason": np.array([deltas[-1].finish_reason], dtype=object),
            "usage": np.array(deltas[-1].usage, dtype=np.int32),
        }

    def likeliest(self, sample: Mapping[str, Any], answer: Sequence[int]) -> list[int]:
        """The likeliest token at each place of ``answer`` (token ids), behind the prompt and what is before it."""
        assert isinstance(self._vlm_engine, VlmEngine), "it has a decoder that reads embeddings"
        return self._vlm_engine.likeliest(sample["messages"], sample["pictures"], answer)

    def steps(self, past: int) -> Iterator[np.ndarray]:
        """Logits of one token after another behind ``past`` tokens, for a clock."""
        assert isinstance(self._vlm_engine, VlmEngine), "it has a decoder that reads embeddings"
        return self._vlm_engine.steps(past)

    def close(self) -> None:
        """End the thread that generates."""
        self._vlm_engine.close()


def open_entry_points(
    graphs: Mapping[str, Path], points: Iterable[EntryPoint], assets: Callable[[EntryPoint], Mapping[str, bytes]],
    models: Mapping[str, Ask] | None = None,
) -> dict[str, LocalPipeline | LocalComposition | LocalChat]:  # fmt: skip
    """The entry points of a model, by role; a network that several of them ask is opened once.

    Args:
        points: one that shares a network after the one that has it.
        assets: the files beside an entry point.
    """
    opened: dict[str, LocalPipeline | LocalComposition | LocalChat] = {}
    for point in points:
        owner = opened.get(point.shares) if isinstance(point, Chain) and point.shares is not None else None
        session = owner.session if isinstance(owner, LocalPipeline) else None
        opened[point.role] = open_entry_point(graphs, point, assets(point), models, session)
    return opened


def open_entry_point(
    graphs: Mapping[str, Path], point: EntryPoint, assets: Mapping[str, bytes] | None = None,
    models: Mapping[str, Ask] | None = None, session: NetworkSession | None = None,
) -> LocalPipeline | LocalComposition | LocalChat:  # fmt: skip
    """The entry point ``point`` of a model whose graphs, by role, are these files.

    Args:
        session: that has opened the network of a chain already.
    """
    if isinstance(point, Chat):
        return LocalChat(graphs, point, assets or {})
    if isinstance(point, Composition):
        return LocalComposition(graphs, point, models, assets)
    assert isinstance(point, Chain), "code of a package has no graph"
    return LocalPipeline(graphs[point.net.role], point.pre, point.head, assets=assets, net=point.net, session=session)


def npy(picture: np.ndarray) -> bytes:
    """A picture as the bytes of a ``.npy`` file, as clients may send it."""
    import io

    stream = io.BytesIO()
    np.save(stream, picture, allow_pickle=False)
    return stream.getvalue()
