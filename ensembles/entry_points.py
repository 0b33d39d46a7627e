"""The entry points of a published model: what a family composes of resize steps, networks and heads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tritonvision.ensembles.preprocessing import Resize
from tritonvision.ensembles.schemas import EMBEDDINGS, Head
from tritonvision.ensembles.tensors import IMAGE, MAX_BATCH, PARAMETERS, TEXT, Tensor
from tritonvision.publication import FEATURES
from tritonvision.tasks import VLM, Task

GRAPH = "model.onnx"  # what the file of a network is called that runs as it was exported


@dataclass(frozen=True)
class Net:
    """One network of a model.

    Attributes:
        role: ``""`` for the only or main one, else what tells it apart: ``text``, ``encoder``, ...
        instances: processes; two for small graphs, one for large ones, since each holds the weights.
        engine: Triton backend that runs it.
        device: ``cpu`` or ``gpu``: the kind of its instances.
        max_batch: samples of one execution.
        precision: of the arithmetic, one of :data:`tritonvision.variants.PRECISIONS`.
        file: in the version's folder, in a format that the engine reads.
    """

    role: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    instances: int = 2
    engine: str = "onnxruntime"
    device: str = "cpu"
    max_batch: int = MAX_BATCH
    precision: str = "fp32"
    file: str = GRAPH


@dataclass(frozen=True)
class TextPreprocess:
    """The pre step of a text: its tokenizer is a file beside the step, written at export.

    Attributes:
        name: of the vocabulary.
        context: tokens of a text, padding included.
    """

    name: str
    context: int

    @property
    def triton_name(self) -> str:
        """Name of the shared Triton model, e.g. ``tokens--clip-77``."""
        return f"tokens--{self.name}-{self.context}"

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What a network behind this step reads."""
        return (Tensor("input_ids", "INT64", (self.context,)),)


@dataclass(frozen=True)
class Chain:
    """An ensemble: pre step, network, post step. Texts have no post step: the network's output is the answer.

    Attributes:
        role: ``""`` for the model itself, else the name of a further entry point: ``text``.
        instances: processes of the network.
        engine, precision, file, max_batch: of the network, see :class:`Net`.
        more: tensors that its network emits besides those of its head, for entry points that share it.
        shares: the role of the entry point whose network it asks; None where it has one of its own.
    """

    pre: Resize | TextPreprocess
    head: Head
    role: str = ""
    instances: int = 2
    engine: str = "onnxruntime"
    precision: str = "fp32"
    file: str = GRAPH
    max_batch: int = MAX_BATCH
    more: tuple[Tensor, ...] = ()
    shares: str | None = None

    @property
    def name(self) -> str:
        """Of the output schema, which decides how answers are read and compared."""
        return self.head.name

    @property
    def task(self) -> Task:
        """What it is asked."""
        return self.head.task

    @property
    def nets(self) -> tuple[Net, ...]:
        """The network of its own, if it has one."""
        return () if self.shares is not None else (self.net,)

    @property
    def net(self) -> Net:
        """The network that it asks, with the tensors that it reads of it."""
        role = self.role if self.shares is None else self.shares
        return Net(
            role, self.pre.tensors, (*self.head.tensors, *self.more), self.instances, self.engine,
            "gpu" if self.engine == "tensorrt" else "cpu", self.max_batch, self.precision, self.file,
        )  # fmt: skip

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """What a caller sends."""
        return (IMAGE if isinstance(self.pre, Resize) else TEXT, PARAMETERS)

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) of the pixels, where they have a size of their own."""
        return self.pre.size if isinstance(self.pre, Resize) else None


def with_features(chain: Chain) -> tuple[Chain, Chain]:
    """The entry point of a classifier, and beside it that of its features: what its last layer reads, ``embeddings``,
    as a further tensor of the same network.
    """
    features = replace(chain, head=EMBEDDINGS, role=FEATURES, shares=chain.role)
    return replace(chain, more=EMBEDDINGS.tensors), features


@dataclass(frozen=True)
class SequenceBatching:
    """Requests that belong together, as the frames of a video: one process answers them, in order, and remembers.

    Attributes:
        most: sequences that one process remembers at once; the next one waits until one of them ends.
        idle_seconds: after which a sequence without a request has ended.
    """

    most: int = 4
    idle_seconds: int = 60


@dataclass(frozen=True)
class Composition:
    """A Python model whose steps depend on data: a module of ``python_backend/compositions``.

    Attributes:
        name: of its output schema.
        version: of that schema.
        nets: the networks it runs.
        extra_inputs: what a caller may send beside ``image`` and ``parameters``.
        outputs: what it answers.
        options: constants of the family, for the module.
        needs: published models it calls, by public id.
        instances: processes, each of which works on one request at a time.
        embedded: whether the networks are sessions of its own processes instead of Triton models. A decoder with
            past_key_values needs this: between Triton models the cache would be copied at every token.
        image_optional: whether a request may leave out ``image`` and send another input (embeddings) instead.
        module: in ``python_backend/compositions``, with ``-`` for ``_``; empty where it is called as the schema.
        sequence: of an entry point with state: how many sequences it remembers, and for how long; None of all others,
            whose requests know nothing of each other.
    """

    name: str
    version: int
    task: Task
    nets: tuple[Net, ...]
    outputs: tuple[Tensor, ...]
    extra_inputs: tuple[Tensor, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()
    needs: tuple[str, ...] = ()
    instances: int = 2
    size: tuple[int, int] | None = None
    role: str = ""
    embedded: bool = False
    image_optional: bool = False
    module: str = ""
    sequence: SequenceBatching | None = None

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """What a caller sends; ``image`` is optional where another input can replace it."""
        image = Tensor(IMAGE.name, IMAGE.dtype, IMAGE.dims, optional=self.image_optional)
        return (image, PARAMETERS, *self.extra_inputs)


@dataclass(frozen=True)
class Chat:
    """A decoupled Python model that generates text token by token; its networks are sessions of its own process.

    The networks are ``vision`` (what the family's prompt makes of pictures -> ``image_embeds``), ``embed``
    (``input_ids`` -> ``inputs_embeds``), and ``decoder``, which reads ``past_key_values.N.key/value`` and gives the
    ``logits`` of the last position and ``present.N.key/value``. A model that writes masks has a further one, ``masks``
    (``codes`` -> ``masks``). An encoder-decoder has ``encoder`` instead
    of ``embed``, see :mod:`tritonvision.python_backend.generation.search_engine`.

    Attributes:
        module: of the family's prompt, ``python_backend/vlm/<module>.py``.
        options: constants of the family, for that module.
        size: (height, width) of one tile of a picture.
    """

    module: str
    nets: tuple[Net, ...]
    options: tuple[tuple[str, Any], ...] = ()
    size: tuple[int, int] | None = None
    version: int = 1
    role: str = ""

    name = "chat"
    task = VLM
    embedded = True
    instances = 1

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """What a caller sends: encoded pictures, and a prompt or messages (JSON)."""
        return (
            Tensor(IMAGE.name, "STRING", (-1,), optional=True), Tensor("prompt", "STRING", (1,), optional=True),
            Tensor("messages", "STRING", (1,), optional=True), PARAMETERS,
        )  # fmt: skip

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """What each response carries: new text, new tokens, why it ended (empty before), tokens in and out so far.

        ``details`` is a JSON object, of :class:`tritonvision.results.Delta` the fields ``cached_tokens`` and
        ``logprobs``; what was published before 0.2 lacks it. Of a model with a network ``masks`` the last one carries
        the masks that the answer spells, if it spells any.
        """
        masks = [tensor for net in self.nets if net.role == "masks" for tensor in net.outputs]
        return (
            Tensor("text", "STRING", (1,)), Tensor("token_ids", "INT64", (-1,)),
            Tensor("finish_reason", "STRING", (1,)), Tensor("usage", "INT32", (2,)), Tensor("details", "STRING", (1,)),
            *(Tensor(tensor.name, "UINT8", (-1, *tensor.dims)) for tensor in masks),
        )  # fmt: skip


@dataclass(frozen=True)
class LocalCode:
    """A Python model that runs the code of a user's own package, see ``python_backend/local_code.py``.

    Attributes:
        outputs: what it answers, as the head kind of its task does, and ``image_size``.
        options: where the package lies and what of it is run.
        environment: folder beside its ``model.py`` that Triton uses as the Python environment of the process, or empty.
    """

    task: Task
    outputs: tuple[Tensor, ...]
    options: tuple[tuple[str, Any], ...]
    environment: str = ""

    name = "local-code"
    version = 1
    role = ""
    nets = ()
    instances = 1
    size = None
    embedded = False
    inputs = (IMAGE, PARAMETERS)


@dataclass(frozen=True)
class EngineChat:
    """A decoupled Python model with the tensors of :class:`Chat`, whose answers another Triton model writes: vLLM.

    Attributes:
        engine: Triton name of that model.
        options: of ``python_backend/vllm_adapter.py``.
    """

    engine: str
    options: tuple[tuple[str, Any], ...]

    name = "engine-chat"
    task = VLM
    version = 1
    role = ""
    nets = ()
    instances = 1
    size = None
    embedded = False
    inputs = property(lambda self: Chat("", ()).inputs)
    outputs = property(lambda self: Chat("", ()).outputs)


EntryPoint = Chain | Composition | Chat | LocalCode | EngineChat


def networks_of(point: EntryPoint) -> tuple[Net, ...]:
    """The networks that an entry point asks, also one that it shares."""
    return (point.net,) if isinstance(point, Chain) else point.nets
