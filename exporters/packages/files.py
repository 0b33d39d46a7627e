"""The folder of a package, which is not trusted: its files, their bytes, and its JSON, all checked."""

from __future__ import annotations

import ast
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from tritonvision.errors import ExportFailed, InvalidParameter
from tritonvision.exporters.weight_files import named_lines

CONFIG, INFERENCE, NAMES, WEIGHTS, MODULE = (
    "model_config.json", "inference_config.json", "class_names.txt", "weights.onnx", "model.py",
)  # fmt: skip
FAMILY = "Local package"  # the manifest's family of a package
_MOST_FILES = 10_000
_MOST_TEXT = 4 << 20  # the most bytes of a file that is read as text
_CHUNK = 1 << 20

Model = TypeVar("Model", bound=BaseModel)


class ModelConfig(BaseModel):
    """The keys of ``model_config.json``; each may be absent, and others are ignored.

    Attributes:
        model_module: file name of the package's own code.
        model_class: the class in it that offers ``from_pretrained(directory)``.
        python_environment: folder of the Python environment in which that code runs; relative to the package's.
    """

    model_config = {"protected_namespaces": ()}

    model_architecture: str | None = None
    task_type: str | None = None
    backend_type: str | None = None
    model_module: str | None = None
    model_class: str | None = None
    python_environment: str | None = None


@dataclass(frozen=True)
class PackageFolder:
    """One package on disk. ``path`` is absolute."""

    path: Path

    @classmethod
    def of(cls, path: Path) -> PackageFolder:
        """The package at ``path``. Raises InvalidParameter where there is no folder."""
        if not path.is_dir():
            raise InvalidParameter("There is no such folder.", hint="Name the folder that holds the package's files.")
        return cls(path.resolve())

    def has(self, name: str) -> bool:
        """Whether there is a file of that name."""
        return (self.path / name).is_file()

    @cached_property
    def config(self) -> ModelConfig:
        """``model_config.json``, or an empty one. Raises ExportFailed."""
        return self.json(CONFIG, ModelConfig) if self.has(CONFIG) else ModelConfig()

    @property
    def has_code(self) -> bool:
        """Whether the package brings Python code of its own, which would have to run."""
        return self.config.model_module is not None or self.config.model_class is not None or self.has(MODULE)

    def file(self, name: str) -> Path:
        """A file in the package. Raises ExportFailed where there is none, or where a link leads out of the folder:
        otherwise a hostile package could have any file of the machine served as its class names.
        """
        path = self.path / name
        if not path.is_file():
            raise ExportFailed(f"The package has no {name}.", hint=_hint(name))
        if not path.resolve().is_relative_to(self.path):
            raise ExportFailed(
                f"{name} of the package is a link that leads out of its folder.", hint="Put the file itself there."
            )
        return path

    def text(self, name: str) -> str:
        """A small UTF-8 file of the package. Raises ExportFailed."""
        path = self.file(name)
        try:
            with path.open("rb") as file:
                data = file.read(_MOST_TEXT + 1)
            text = data.decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise ExportFailed(f"{name} of the package cannot be read as UTF-8 text.", hint=_hint(name)) from error
        if len(data) > _MOST_TEXT:
            raise ExportFailed(f"{name} of the package is larger than 4 MB.", hint=_hint(name))
        return text

    def json(self, name: str, model: type[Model]) -> Model:
        """A JSON file of the package, checked. Raises ExportFailed; the sentence names the invalid key."""
        text = self.text(name)
        try:
            return model.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            what = f"{where!r}: {first['msg']}" if where else first["msg"]
            raise ExportFailed(f"{name} of the package is not valid: {what}.", hint=_hint(name)) from error
        except RecursionError as error:
            raise ExportFailed(f"{name} of the package is nested too deeply.", hint=_hint(name)) from error

    def class_names(self) -> tuple[str, ...] | None:
        """The lines of ``class_names.txt``, or None where there is no such file. Raises ExportFailed."""
        if not self.has(NAMES):
            return None
        names = named_lines(self.text(NAMES))
        if not names or not all(names):
            raise ExportFailed(f"{NAMES} of the package has an empty line.", hint=_hint(NAMES))
        return names

    def files(self) -> Iterator[Path]:
        """Its files in a fixed order, without hidden and compiled ones, special files, and Python environments.

        Raises ExportFailed when there are too many for a package.
        """
        count = 0
        for folder, inner, names in os.walk(self.path):
            inner[:] = sorted(
                name for name in inner
                if not name.startswith((".", "__pycache__")) and not os.path.exists(f"{folder}/{name}/pyvenv.cfg")
            )  # fmt: skip
            for name in sorted(names):
                if name.startswith(".") or name.endswith(".pyc") or not os.path.isfile(f"{folder}/{name}"):
                    continue
                count += 1
                if count > _MOST_FILES:
                    raise ExportFailed(
                        f"The folder holds more than {_MOST_FILES} files, so it is no package.",
                        hint="Name the folder that holds model_config.json or weights.onnx.",
                    )
                yield Path(folder) / name

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the names and the bytes of :meth:`files`; it changes when the package does."""
        whole = hashlib.sha256()
        for path in self.files():
            whole.update(f"{path.relative_to(self.path)}\0".encode("utf-8", "surrogateescape"))
            try:
                with path.open("rb") as file:
                    whole.update(hashlib.file_digest(file, "sha256").digest())
            except OSError as error:
                raise ExportFailed(
                    f"The package's file {path.name!r} cannot be read.", hint="Look at its rights."
                ) from error
        return whole.hexdigest()

    @property
    def size(self) -> int:
        """Bytes of :meth:`files`."""
        return sum(path.stat().st_size for path in self.files())

    def module(self) -> str:
        """Name of the file of its code, checked to be valid Python without running it. Raises ExportFailed."""
        name = self.config.model_module or MODULE
        if Path(name).name != name or not name.endswith(".py"):
            raise ExportFailed("'model_module' must be the name of a .py file in the package.", hint=_hint(CONFIG))
        try:
            tree = ast.parse(self.text(name))
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            line = getattr(error, "lineno", None)
            where = f" (line {line})" if line else ""
            raise ExportFailed(
                f"{name} of the package is not valid Python{where}.", hint=f"Try: python3 -m py_compile {name}"
            ) from error
        wanted = self.config.model_class
        if wanted is not None and not _may_define(tree, wanted):
            raise ExportFailed(f"{name} of the package has no class {wanted[:80]!r}.", hint=_hint(CONFIG))
        return name


def _may_define(tree: ast.Module, name: str) -> bool:
    """Whether a module may define ``name``: the name occurs in it, or it has an ``import *``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return True
        if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store):
            return True
        if isinstance(node, ast.ImportFrom | ast.Import):
            if any((alias.asname or alias.name) in (name, "*") for alias in node.names):
                return True
    return False


def _hint(name: str) -> str:
    return {
        CONFIG: "With code of its own it names model_module and model_class; else model_architecture and task_type.",
        INFERENCE: "It describes the picture's way in: network_input with its size, colours, scaling and resize mode.",
        NAMES: "UTF-8 text, one class a line, in the order of the class ids.",
    }.get(name, "A package holds weights.onnx, inference_config.json and class_names.txt, or code of its own.")
