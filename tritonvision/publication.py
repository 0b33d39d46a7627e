"""Published models: the manifest beside each one, and the folder that holds them all."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritonvision import catalog, moves
from tritonvision.errors import BrokenModel, UnknownModel
from tritonvision.tuning import Tuning
from tritonvision.variants import Variant, variant_name

if TYPE_CHECKING:
    from pydantic import TypeAdapter

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
TOLD_RANDOM = "The weights of {} are random: its answers mean nothing."
FEATURES = "features"  # role of the entry point of a classifier that answers what its last layer reads
MANIFEST_PARAMETER = "manifest"  # of the public model's config in Triton: the same JSON
VARIANT_PARAMETER = "variant"  # of a composition's config: the variant that its networks run as, absent as exported


@dataclass(frozen=True)
class Manifest:
    """What a published model is, where it came from, and how exactly it was proven.

    Attributes:
        id: public id, with slashes.
        family, task: as the catalogue spells them.
        head: the head kind whose canonical tensors its network emits.
        weights: ``official``, ``random`` or ``user``.
        source: file name or hub id the weights were read from.
        sha256: of the weights file, or of the exported graphs when weights are random.
        labels: class names by class id.
        keypoint_labels: names of the key points, in order; empty for other tasks.
        multi_label: whether classes are independent of each other.
        input_size: (height, width) of the network's pixels; None where it follows the picture.
        steps: the Triton models this one needs besides itself, loaded before it.
        roles: its entry points: ``""``, the model itself, and others such as ``text`` and :data:`FEATURES`.
        needs: published models that it asks, by public id.
        graph_bytes: of its networks, counted once for each process that holds them.
        processes: of the server that are its own, not shared with other models.
        map_meaning: of a depth map: ``inverse-depth``, larger is nearer, or ``depth``.
        grounding: how it writes places in a picture into its text, see :mod:`tritonvision.grounding`; empty where not.
        grounding_pixels: of a convention in pixels, how the picture is resized that they are of: the last three
            arguments of :func:`~tritonvision.grounding.smart_resize.smart_resize`.
        asked_as: of a model that generates text, what :class:`tritonvision.ViModel` asks of it: ``vqa`` or
            ``phrase-grounding``; empty where nobody said.
        backend: what its networks are published as: ``onnx``, or ``custom`` where the model is a user's own code.
        files: sha256 of its graphs and of what lies beside them, by path below the repository; none of what was
            published before 0.2.
        parity: figures of the gate, name to number.
        versions: packages that took part in the export.
        variants: further ways to run its networks, see :class:`~tritonvision.variants.Variant`.
        serving: name of the variant that serves, or empty: the graphs as they were exported, on ONNX Runtime.
        tuning: with how many processes and threads that variant runs on one machine; None where nobody measured.
    """

    id: str
    family: str
    task: str
    head: str
    weights: str
    source: str
    sha256: str
    license: str
    precision: str
    labels: tuple[str, ...]
    input_size: tuple[int, int] | None
    steps: tuple[str, ...]
    roles: tuple[str, ...] = ("",)
    needs: tuple[str, ...] = ()
    graph_bytes: int = 0
    processes: int = 0
    map_meaning: str = ""
    keypoint_labels: tuple[str, ...] = ()
    multi_label: bool = False
    grounding: str = ""
    grounding_pixels: tuple[int, int, int] | None = None
    asked_as: str = ""
    backend: str = "onnx"
    files: dict[str, str] = field(default_factory=dict)
    parity: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    variants: tuple[Variant, ...] = ()
    serving: str = ""
    tuning: Tuning | None = None

    @property
    def triton_name(self) -> str:
        """Name of the public Triton model."""
        return catalog.triton_name(self.id)

    @property
    def triton_names(self) -> tuple[str, ...]:
        """Names of the Triton models of all its entry points."""
        return tuple(map(self.entry_point, self.roles))

    def entry_point(self, role: str) -> str:
        """Name of the Triton model of one entry point."""
        return f"{self.triton_name}--{role}" if role else self.triton_name

    @property
    def base_variant(self) -> str:
        """Name of what is always there: the graphs as they were exported, on ONNX Runtime."""
        return variant_name("onnxruntime", self.precision)

    @property
    def serving_variant(self) -> Variant | None:
        """The variant that serves, or None: :attr:`base_variant` does."""
        return next((variant for variant in self.variants if variant.name == self.serving), None)

    @property
    def fingerprint(self) -> str:
        """Hex digest of what answers: the graphs, or the weights where their hashes are unknown, and the variant."""
        known = self.files or {"": self.sha256}
        text = json.dumps([self.id, self.serving, sorted(known.items())])
        return hashlib.sha256(text.encode()).hexdigest()

    def without_variants(self) -> Manifest:
        """The model itself: what stays the same whichever variants it has and whichever serves."""
        return replace(self, variants=(), serving="", tuning=None, notes=())

    def to_json(self) -> str:
        """The manifest as the text of its file."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """The manifest written by :meth:`to_json`. Raises ValueError, TypeError or KeyError for anything else."""
        data: dict[str, Any] = json.loads(text)
        if not isinstance(data, dict):
            raise TypeError("A manifest is a JSON object.")
        given: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in data.items()}
        given["variants"] = tuple(Variant.from_dict(variant) for variant in given.get("variants", ()))
        if given.get("tuning") is not None:
            given["tuning"] = Tuning.from_dict(given["tuning"])
        manifest = cls(**given)  # refuses what it does not know
        _types().validate_json(text, strict=True)
        return manifest


@functools.cache
def _types() -> TypeAdapter[Manifest]:
    """What each field of a manifest may hold. Imported on first use: the steps in Triton start without pydantic."""
    from pydantic import TypeAdapter

    return TypeAdapter(Manifest)


class Repository:
    """The published models of one model repository folder, read fresh whenever a manifest changes on disk.

    While the whole folder is gone, as a lost mount is, the models that were asked for before are still known.
    """

    def __init__(self, root: Path):
        self.root = root
        self._known: dict[str, Manifest] = {}

    def get(self, model_id: str) -> Manifest | None:
        """The manifest published under exactly ``model_id``, or None.

        A manifest that is broken, or that is another model's (a copied folder), counts as not published.
        """
        path = f"{self.root}/{catalog.triton_name(model_id)}/{MANIFEST}"  # asked several times a request
        try:
            stat = os.stat(path)
        except OSError:
            return None if os.path.isdir(self.root) else self._known.get(model_id)
        try:
            manifest = _read(path, stat.st_mtime_ns, stat.st_ino)
        except OSError:  # not remembered: rights change without the file's time
            manifest = None
        if manifest is None or manifest.id != model_id:
            return None
        self._known[model_id] = manifest
        return manifest

    def resolve(self, name: str) -> Manifest:
        """The published model that ``name`` means. Exported user ids come before catalogue ids before aliases.

        Raises:
            UnknownModel: nobody goes by that name, or the model is known but not published.
            BrokenModel: something is published in its place that cannot be read as it.
        """
        manifest = self.find(name)
        if manifest is not None:
            return manifest
        for meaning in _meanings(name):
            self.existing(meaning)
        entry = next((catalog.entries()[n] for n in _meanings(name) if n in catalog.entries()), None)
        if entry is None:
            raise catalog.unknown(name, (manifest.id for manifest in self))
        raise UnknownModel(
            f"'{entry.id}' is not published here.", hint=f"Publish it with: tritonvision export {entry.id}"
        )

    def find(self, name: str) -> Manifest | None:
        """As :meth:`resolve`, None where nothing of that name is published. Raises UnknownModel for what is no id."""
        return next(filter(None, map(self.get, _meanings(catalog.check_id(name)))), None)

    def existing(self, model_id: str) -> Manifest | None:
        """As :meth:`get`, where None would mean that nothing is lost when ``model_id`` is published.

        Raises BrokenModel for what cannot be read: a newer version's model, another one's, another user's.
        """
        manifest = self.get(model_id)
        unfit = None if manifest is not None else self._unfit(catalog.triton_name(model_id))
        if unfit is not None:
            raise unfit
        return manifest

    def __iter__(self) -> Iterator[Manifest]:
        """Every published model, by id."""
        found = (self._in(path.parent.name) for path in sorted(self.root.glob(f"*/{MANIFEST}")))
        return (manifest for manifest in found if manifest is not None)

    def left_out(self) -> list[str]:
        """What looks like a published model and is none, a sentence each: for people, who wonder why it is missing."""
        try:
            folders = sorted(path for path in self.root.iterdir() if not path.name.startswith(".") and path.is_dir())
        except OSError as error:
            return [f"The repository {self.root} cannot be read: {error.strerror}."] if self.root.exists() else []
        found = (self._unfit(folder.name) for folder in folders)
        return [unfit.message for unfit in found if unfit is not None]

    def _unfit(self, folder: str) -> BrokenModel | None:
        """The error of a folder that looks like a published model and is none, for any other None."""
        path = self.root / folder / MANIFEST
        try:
            if not path.is_file() or self._in(folder) is not None:
                return None
            what, hint = _not_read(path)
        except OSError:
            return BrokenModel(
                f"The folder {folder!r} cannot be read by this user: {MANIFEST} or its folder.",
                hint="Let the user who serves read it, for example with: chmod -R a+rX",
            )
        return BrokenModel(f"The folder {folder!r} holds {what}.", hint=hint)

    def _in(self, folder: str) -> Manifest | None:
        """The manifest of the model in ``folder``, or None where the folder is no model's."""
        try:
            return self.get(catalog.from_triton_name(folder))
        except UnknownModel:  # a name that no id has
            return None


def _meanings(name: str) -> list[str]:
    """The ids that ``name`` may mean, in the order in which they count."""
    meanings = [name, catalog.canonical(name)]
    if name.count("/") == 2:  # workspace/project/version: the workspace is the client's business
        inner = name.split("/", 1)[1]
        meanings += [inner, catalog.canonical(inner)]
    return meanings


def everything(repository: Repository) -> Iterator[tuple[catalog.Entry | Manifest, Manifest | None]]:
    """Every entry of the catalogue, with its manifest where it is published; then every other manifest, twice."""
    here = {manifest.id: manifest for manifest in repository}
    for entry in catalog.entries().values():
        yield entry, here.pop(entry.id, None)
    for manifest in here.values():
        yield manifest, manifest


def _not_read(path: Path) -> tuple[str, str]:
    """What a manifest is that is not read, and a hint. Raises OSError."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        told = None
    newer = sorted(set(told) - {each.name for each in fields(Manifest)}) if isinstance(told, dict) else []
    if newer:
        return (
            f"a manifest of a newer version of tritonvision, which tells '{newer[0]}'",
            "Serve it with that version, or publish it again with --force.",
        )
    return "another model's manifest, or a broken one", "Move it elsewhere, or publish it again with --force."


@functools.lru_cache(maxsize=1024)
def _read(path: str, mtime_ns: int, inode: int) -> Manifest | None:
    """None for what is no manifest. Raises OSError."""
    text = Path(path).read_bytes()
    try:
        return Manifest.from_json(text.decode())
    except (ValueError, TypeError, KeyError):
        return None


@contextmanager
def locked(repository: Path) -> Iterator[None]:
    """One process at a time changes the folder ``repository``, or looks at several files that belong together.

    What a process began to change that was killed is finished or taken back first.
    """
    handle = os.open(repository, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            moves.recover(repository)
        except OSError as error:
            log.error("A publication that was cut short cannot be taken back: %s.", error.strerror)
        yield
    finally:
        os.close(handle)
