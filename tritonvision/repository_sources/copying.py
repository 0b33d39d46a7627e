"""The copy of a source on this machine: looked at again and again, whole at every moment.

What changed is fetched into a staging folder, compared with the hashes in the manifests of the models, and put in place
by renames that count together (:mod:`tritonvision.moves`). A model that is being uploaded does not fit its hashes, and
stays as it was until it does.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tritonvision.errors import ServerUnavailable, SetupError
from tritonvision.moves import move_together
from tritonvision.publication import MANIFEST, Manifest, locked
from tritonvision.repository_sources.remote import Remote, Source
from tritonvision.staging import staging_folder

log = logging.getLogger(__name__)

_STATE = ".source.json"  # which file of the source each file of the copy was
# Folders as Triton models are called, and files below them whose names mean nothing to a shell or a path.
_PATH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9_.][A-Za-z0-9._+ -]*)+")
_BLOCK = 2**20

Folder = dict[str, Remote]  # the files of one folder of the repository, by path below it


@dataclass(frozen=True)
class Changes:
    """What one look brought.

    Attributes:
        models: ids of the models that are new or were published again.
        gone: folders that the source does not have any more.
        unfinished: ids of models that do not fit their manifests, and so stay as they are, and why.
    """

    models: tuple[str, ...]
    gone: tuple[str, ...]
    unfinished: Mapping[str, str]


class RepositoryCopy:
    """A model repository that follows a source.

    Args:
        root: the folder of the copy; what is in it beside is left alone.
    """

    def __init__(self, source: Source, root: Path):
        self._source, self._root = source, root
        self._unfinished_at: tuple[dict[str, dict[str, str]], Changes] | None = None

    def look(self) -> Changes:
        """Bring over what changed.

        Raises:
            ServerUnavailable: the source does not answer, or changed while it was read; the copy is as it was.
            SetupError: there is nothing in it, or the copy cannot be written.
        """
        there = self._folders()
        if not there:
            raise SetupError(f"There is no model repository at {self._source.url}.", hint="Look at its prefix.")
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            known = self._known()
            changed = [
                name for name, files in there.items()
                if known.get(name) != _marks(files) or not (self._root / name).is_dir()
            ]  # fmt: skip
            gone = [name for name in known if name not in there and (self._root / name).is_dir()]
            if not changed and not gone:
                return Changes((), (), {})
            marks = {name: _marks(files) for name, files in there.items()}
            if self._unfinished_at is not None and self._unfinished_at[0] == marks:
                return self._unfinished_at[1]  # else a broken upload would be fetched at every look
            with self._staging() as staging:
                for name in changed:
                    self._fetch(name, there[name], known.get(name, {}), staging / "models")
                found = self._put(staging, there, known, changed, gone)
            again = Changes((), (), found.unfinished)
            self._unfinished_at = (marks, again) if found.unfinished else None
            return found
        except OSError as error:
            raise SetupError(
                f"The copy of {self._source.url} cannot be written into {self._root}: {error.strerror}.",
                hint="Look at its free space and its rights, or name another folder with --repository DIR.",
            ) from error

    def _folders(self) -> dict[str, Folder]:
        """The files of the source by folder; those that can be no part of a repository are left out."""
        found: defaultdict[str, Folder] = defaultdict(dict)
        for remote in self._source.list():
            if _PATH.fullmatch(remote.path) and ".." not in remote.path and "/__pycache__/" not in remote.path:
                name, _, rest = remote.path.partition("/")
                found[name][rest] = remote
        return dict(found)

    def _fetch(self, name: str, files: Folder, known: Mapping[str, str], built: Path) -> None:
        """Build a folder beside the repository; a file that did not change is linked, not fetched.

        A model needs a version folder, which buckets and registries do not keep when it is empty.
        """
        (built / name / "1").mkdir(parents=True)
        for rest, remote in files.items():
            target, here = built / name / rest, self._root / name / rest
            target.parent.mkdir(parents=True, exist_ok=True)
            if known.get(rest) == _mark(remote) and here.is_file() and here.stat().st_size == remote.size:
                os.link(here, target)
                continue
            self._source.fetch(remote, target)
            if target.stat().st_size != remote.size:
                told = f"{remote.path} of {self._source.url} changed while it was read."
                raise ServerUnavailable(told, retry_after=5)

    def _put(
        self, staging: Path, there: dict[str, Folder], known: dict[str, dict[str, str]], changed: Collection[str],
        gone: Collection[str],
    ) -> Changes:  # fmt: skip
        """Put what is whole in place, networks before the models that need them."""
        unfinished = dict(self._unfinished(staging / "models", there))
        held = {name for model in unfinished for name in there if _belongs(name, model.replace("/", "__"))}
        names = sorted((n for n in changed if n not in held), key=lambda n: (MANIFEST in there[n], n))
        leaving = [name for name in gone if not any(_belongs(name, model.replace("/", "__")) for model in unfinished)]
        leaving.sort(key=lambda name: (MANIFEST not in known[name], name))
        aside = staging / "gone"
        aside.mkdir()
        with locked(self._root):
            moves = [(staging / "models" / name, self._root / name) for name in names]
            move_together([*moves, *((self._root / name, aside / name) for name in leaving)], staging)
            state = {name: marks for name, marks in known.items() if name in there and name not in names}
            self._remember(state | {name: _marks(there[name]) for name in names})
        models = [name.replace("__", "/") for name in names if MANIFEST in there[name]]
        for model, why in unfinished.items():
            log.warning("%s is not taken over from %s yet: %s.", model, self._source.url, why)
        if names or leaving:
            log.info("%d folders came from %s, %d went.", len(names), self._source.url, len(leaving))
        return Changes(tuple(models), tuple(leaving), unfinished)

    def _unfinished(self, built: Path, there: dict[str, Folder]) -> Iterator[tuple[str, str]]:
        """The models whose files are not those that their manifests tell, and what is wrong with the first."""
        for name, files in there.items():
            if MANIFEST not in files:
                continue

            def place(path: str) -> Path:
                return built / path if (built / path.partition("/")[0]).is_dir() else self._root / path

            try:
                manifest = Manifest.from_json(place(f"{name}/{MANIFEST}").read_text(encoding="utf-8"))
            except (OSError, ValueError, TypeError, KeyError):
                yield name.replace("__", "/"), "its manifest cannot be read"
                continue
            folders = {*manifest.triton_names, *manifest.steps}
            if not any((built / folder).is_dir() for folder in folders):
                continue  # nothing of it changed
            missing = next((folder for folder in sorted(folders) if not place(folder).is_dir()), None)
            if missing is not None:
                yield manifest.id, f"the folder {missing} is missing"
                continue
            wrong = next((path for path, sha in manifest.files.items() if _digest(place(path)) != sha), None)
            if wrong is not None:
                yield manifest.id, f"{wrong} is not the file of its manifest"

    # ---- what is remembered --------------------------------------------------------------------------------------

    def _known(self) -> dict[str, dict[str, str]]:
        try:
            told = json.loads((self._root / _STATE).read_text(encoding="utf-8"))
            return told["folders"] if told["url"] == self._source.url else {}
        except (OSError, ValueError, TypeError, KeyError):
            return {}

    def _remember(self, folders: Mapping[str, Mapping[str, str]]) -> None:
        fresh = self._root / f"{_STATE}.fresh"
        fresh.write_text(json.dumps({"url": self._source.url, "folders": folders}), encoding="utf-8")
        fresh.replace(self._root / _STATE)

    @contextmanager
    def _staging(self) -> Iterator[Path]:
        with staging_folder(self._root) as folder:
            (folder / "models").mkdir()
            yield folder


def _belongs(folder: str, model: str) -> bool:
    """Whether a folder is a Triton model's of its own: itself, an entry point or a network of it."""
    return folder in (model, f"net--{model}") or folder.startswith((f"{model}--", f"net--{model}--"))


def _mark(remote: Remote) -> str:
    return f"{remote.size} {remote.mark}"


def _marks(files: Folder) -> dict[str, str]:
    return {rest: _mark(remote) for rest, remote in files.items()}


def _digest(path: Path) -> str:
    """sha256, hex; empty where there is no such file."""
    whole = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                whole.update(block)
    except OSError:
        return ""
    return whole.hexdigest()
