"""The entry points of a published model: what a family puts together out of resize steps, networks and head kinds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tritonvision.ensembles.heads import HeadKind
from tritonvision.ensembles.resize import Resize
from tritonvision.ensembles.tensors import IMAGE, PARAMETERS, TEXT, Tensor
from tritonvision.tasks import Task


@dataclass(frozen=True)
class Net:
    """One network of a model.

    Attributes:
        role: ``""`` for the only or main one, else what tells it apart: ``text``, ``encoder``, ...
        instances: processes; two for small graphs, one for large ones, since each holds the weights.
    """

    role: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    instances: int = 2


@dataclass(frozen=True)
class Tokens:
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
    """An ensemble: pre step, network, post step. Texts need no way back, so their network's answer is the answer.

    Attributes:
        role: ``""`` for the model itself, else the name of another way in: ``text``.
        instances: processes of the network.
    """

    pre: Resize | Tokens
    head: HeadKind
    role: str = ""
    instances: int = 2

    @property
    def name(self) -> str:
        """The head kind decides how answers are read and compared."""
        return self.head.name

    @property
    def task(self) -> Task:
        """What it is asked."""
        return self.head.task

    @property
    def nets(self) -> tuple[Net, ...]:
        """Its one network."""
        return (Net(self.role, self.pre.tensors, self.head.tensors, self.instances),)

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """What a caller sends."""
        return (IMAGE if isinstance(self.pre, Resize) else TEXT, PARAMETERS)

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) of the pixels, where they have a size of their own."""
        return self.pre.size if isinstance(self.pre, Resize) else None


@dataclass(frozen=True)
class Composition:
    """A Python model whose steps depend on data: ``python_backend/compositions/<name>.py``.

    Attributes:
        name: also of its module, with ``_`` for ``-``.
        version: of its answers' schema.
        nets: the networks it asks.
        extra_inputs: what a caller may send beside ``image`` and ``parameters``.
        outputs: what it answers.
        options: constants of the family, for the module.
        needs: published models it asks, by public id.
        instances: processes, each of which works on one request at a time.
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

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """What a caller sends; the picture may stay away where another input stands for it."""
        image = Tensor(IMAGE.name, IMAGE.dtype, IMAGE.dims, optional=bool(self.extra_inputs))
        return (image, PARAMETERS, *self.extra_inputs)


EntryPoint = Chain | Composition
