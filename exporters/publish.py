"""Publishing: a model is built in a folder of its own and moved into the repository when it is whole.

Everything happens below ``<repository>/.staging``; what is put in place afterwards is put there by renames, an existing
folder by one exchange of names. They count together: what fails is taken back at once, and what a process began that
was killed is taken back by whoever looks next (:mod:`tritonvision.moves`). Its staging folder the next export removes.
"""

from __future__ import annotations

import errno
import filecmp
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from tritonvision.ensembles import model_configs
from tritonvision.ensembles.entry_points import Chain, EntryPoint
from tritonvision.errors import SetupError
from tritonvision.exporters.graphs import storage
from tritonvision.golden import FOLDER
from tritonvision.moves import move_together
from tritonvision.publication import MANIFEST, Manifest, Repository, locked
from tritonvision.staging import staging_folder

_FULL = {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def staging(repository: Path) -> Iterator[Path]:
    """A folder below ``repository`` to build in, removed when the block ends; if the process dies, by a later export.

    Raises:
        SetupError: the repository cannot be written, or its disk is full before the block ends.
    """
    with ExitStack() as made:
        try:
            repository.mkdir(parents=True, exist_ok=True)
            folder = made.enter_context(staging_folder(repository))
        except OSError as error:
            raise SetupError(
                "The model repository cannot be written.", hint="Name another folder with --repository DIR."
            ) from error
        try:
            yield folder
        except OSError as error:
            if error.errno not in _FULL:
                raise
            raise SetupError(
                "The disk of the model repository is full; the repository is as it was.",
                hint="Make room, or name another folder with --repository DIR.",
            ) from error


def publish(
    repository: Path, folder: Path, manifest: Manifest, points: Sequence[EntryPoint], graphs: Mapping[str, Path],
    assets: Mapping[str, Mapping[str, bytes]] | None = None, golden: Mapping[str, bytes] | None = None,
    beside: Mapping[str, Mapping[str, bytes]] | None = None,
) -> Manifest:  # fmt: skip
    """Put a model into ``repository``: the shared steps it needs, its networks, then its entry points.

    Args:
        folder: of :func:`staging`.
        graphs: the ONNX file of each network by role, on the same file system; they are moved.
        assets: files of an entry point, by role and name; beside its pre step, or beside the Python model that it is.
        golden: files of the model's golden questions, by name, see :mod:`tritonvision.golden`.
        beside: files of further Triton models that it needs, by name of the model and path below its folder.

    Returns:
        The manifest as it is published, with the sha256 of the files.

    Raises:
        SetupError: the repository cannot be written; it is then as it was.
    """
    name = manifest.triton_name
    built = folder / "models"
    asked = {f"{name}/{FOLDER}/{file}": data for file, data in (golden or {}).items()}
    digests = {path: hashlib.sha256(data).hexdigest() for path, data in asked.items()}
    manifest = replace(manifest, files=_digests(name, points, graphs, assets or {}) | digests)
    try:
        order = [*(beside or {})]
        for model, files_of_model in (beside or {}).items():
            for file, data in files_of_model.items():
                (built / model / file).parent.mkdir(parents=True, exist_ok=True)
                (built / model / file).write_bytes(data)
        for point in points:
            files = (assets or {}).get(point.role)
            order += [
                model_configs.ensure_step(built, step, files if step is getattr(point, "pre", None) else None)
                for step in model_configs.shared_steps(point)
            ]
            for net in () if model_configs.embedded(point) else point.nets:
                target = built / model_configs.net_name(name, net.role)
                _write(target / "config.pbtxt", model_configs.net_config(name, net))
                (target / "1").mkdir()
                storage.move(graphs[net.role], built, model_configs.graph_path(name, point, net))
                order.append(target.name)
        for point in reversed(points):  # the model itself is last: with its manifest it is published
            public = built / model_configs.entry_point_name(name, point.role)
            own = _beside(point, assets or {})
            itself = None if point.role else manifest
            _write(public / "config.pbtxt", model_configs.public_config(name, point, own, itself))
            if isinstance(point, Chain):
                _write(public / "1" / ".keep", "")  # an ensemble needs a version folder, and empty ones get lost
            else:
                _write(public / "1" / "model.py", model_configs.entry_point_py(point))
            for file, data in own.items():
                path = public / "1" / file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            for net in point.nets if model_configs.embedded(point) else ():
                storage.move(graphs[net.role], built, model_configs.graph_path(name, point, net))
            order.append(public.name)
        for golden_file, data in asked.items():
            (built / golden_file).parent.mkdir(exist_ok=True)
            (built / golden_file).write_bytes(data)
        _write(built / name / MANIFEST, manifest.to_json())
        with locked(repository):
            orphans = [repository / orphan for orphan in _orphans(repository, manifest, order)]
            put_in_place([(built / n, repository / n) for n in dict.fromkeys(order)], folder, orphans)
    except OSError as error:
        raise SetupError(
            "The model could not be written into the repository, which is as it was.",
            hint="Look at its free space and its rights, or name another folder with --repository DIR.",
        ) from error
    return manifest


def _beside(point: EntryPoint, assets: Mapping[str, Mapping[str, bytes]]) -> Mapping[str, bytes]:
    """The files beside the Python model that an entry point is; those of a chain belong to a step it shares."""
    return {} if isinstance(point, Chain) else assets.get(point.role, {})


def _digests(
    name: str, points: Sequence[EntryPoint], graphs: Mapping[str, Path], assets: Mapping[str, Mapping[str, bytes]]
) -> dict[str, str]:
    """sha256 of the files of a model, by path below the repository."""
    found: dict[str, str] = {}
    for point in points:
        for net in point.nets:
            found |= storage.digests(graphs[net.role], model_configs.graph_path(name, point, net))
        beside = dict(_beside(point, assets))
        if not isinstance(point, Chain):  # code that runs; a file of that name beside it is in its place
            beside.setdefault("model.py", model_configs.entry_point_py(point).encode())
        for file_name, data in beside.items():
            path = f"{model_configs.entry_point_name(name, point.role)}/1/{file_name}"
            found[path] = hashlib.sha256(data).hexdigest()
    return found


def _orphans(repository: Path, manifest: Manifest, order: Sequence[str]) -> list[str]:
    """Folders of the model that is being replaced that its successor does not have: networks and entry points."""
    before = Repository(repository).get(manifest.id)
    if before is None:
        return []
    name = model_configs.net_name(before.triton_name)
    networks = [step for step in before.steps if step == name or step.startswith(f"{name}--")]
    return [folder for folder in (*networks, *before.triton_names) if folder not in order]


def put_in_place(moves: Sequence[tuple[Path, Path]], folder: Path, gone: Sequence[Path] = ()) -> None:
    """Move each built folder to its target, in order, and ``gone`` away; all of them or none, see :mod:`moves`.

    A target that is there already changes places with the built one; one that holds the same files stays.

    Args:
        folder: of :func:`staging`; what changed places or went is removed with it.
    """
    changed = [(built, target) for built, target in moves if not (target.exists() and _same(built, target))]
    aside = folder / "gone"
    aside.mkdir(exist_ok=True)
    move_together([*changed, *((path, aside / path.name) for path in gone if path.is_dir())], folder)


def _same(built: Path, target: Path) -> bool:
    """Whether ``target`` holds the built files, byte by byte, and no others; what Python left there is ignored."""
    ours, theirs = _files(built), _files(target)
    return ours.keys() == theirs.keys() and all(
        path.samefile(theirs[name]) or filecmp.cmp(path, theirs[name], shallow=False) for name, path in ours.items()
    )


def _files(folder: Path) -> dict[str, Path]:
    found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix(): path for path in found}


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
