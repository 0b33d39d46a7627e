"""Weights on the Hugging Face hub: ``hf:OWNER/NAME[@REVISION][:FILE]``, through the hub's own client and its cache.

The client resumes a download that stops in the middle; what it gives up on is a sentence here. HF_ENDPOINT, HF_TOKEN,
HF_HOME and HF_HUB_OFFLINE mean what they mean to the client.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from tritonvision import licenses
from tritonvision.errors import InvalidParameter
from tritonvision.exporters.checkpoints import SUFFIXES
from tritonvision.exporters.sources import hub_errors
from tritonvision.exporters.sources.patience import TRIES

PREFIX = "hf:"
_SPELT = re.compile(r"hf:(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?(?::(?P<file>.+))?")
_HINT = "hf:OWNER/NAME, hf:OWNER/NAME@REVISION or hf:OWNER/NAME:FILE."
_FOLDERS = (  # with all files of one, the folder is what timm, transformers or peft load
    {"config.json", "model.safetensors"},
    {"config.json", "model.safetensors.index.json"},  # large weights are several files
    {"adapter_config.json", "adapter_model.safetensors"},
)
_BESIDE = (".json", ".txt", ".model", ".safetensors", ".jinja")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_NAMED = 5  # files of a repository that a hint names
T = TypeVar("T")


@dataclass(frozen=True)
class Reference:
    """What ``hf:OWNER/NAME[@REVISION][:FILE]`` means.

    Attributes:
        revision: a branch, a tag or a commit; empty for the default branch.
        file: path in the repository; empty for what the repository holds.
    """

    repository: str
    revision: str = ""
    file: str = ""

    @classmethod
    def read(cls, text: str) -> Reference:
        """Raises InvalidParameter for what is spelt otherwise, or leads out of the repository."""
        found = _SPELT.fullmatch(text)
        path = PurePosixPath(found["file"] or ".") if found else PurePosixPath("/")
        if found is None or path.is_absolute() or ".." in path.parts:
            raise InvalidParameter(f"'{text[:80]}' names no weights on the hub.", hint=_HINT)
        return cls(found["repository"], found["revision"] or "", found["file"] or "")


@dataclass(frozen=True)
class Fetched:
    """Weights that were fetched.

    Attributes:
        path: of the one file, or of the folder.
        source: repository, commit and file.
        license: in the owner's words, or that it is not told.
    """

    path: Path
    source: str
    license: str


def refetched(source: str) -> Path | None:
    """What :attr:`Fetched.source` says was fetched, from the cache or the hub; None for what came from elsewhere.

    Raises as :func:`fetch`.
    """
    found = _SPELT.fullmatch(f"{PREFIX}{source}")
    return fetch(f"{PREFIX}{source}").path if found and _COMMIT.fullmatch(found["revision"] or "") else None


def fetch(text: str) -> Fetched:
    """The weights that ``text`` names, see :class:`Reference`, from the hub's cache or the hub.

    Raises:
        InvalidParameter: it is spelt otherwise, the repository holds several weights, or its licence was not accepted.
        ExportFailed: they cannot be had; the sentence says why.
        SetupError: the disk is full.
    """
    from huggingface_hub import HfApi

    wanted = Reference.read(text)
    name = wanted.repository
    about = asking(lambda: HfApi().model_info(name, revision=wanted.revision or None), name)
    card: Any = about.card_data or {}
    told = card.get("license_name") or card.get("license") or ""
    terms = licenses.of_hub(name, str(told), bool(about.gated))
    licenses.require(terms)
    chosen = _chosen([sibling.rfilename for sibling in about.siblings or ()], wanted)
    paths = [file(name, part, about.sha) for part in chosen]
    where = f"{name}@{about.sha}"
    if len(chosen) == 1:
        return Fetched(paths[0], f"{where}:{chosen[0]}", terms.license)
    return Fetched(paths[0].parent, where, terms.license)


def _chosen(files: Sequence[str], wanted: Reference) -> list[str]:
    """The files to fetch. Raises InvalidParameter where they do not tell."""
    name = wanted.repository
    if wanted.file:
        if wanted.file in files:
            return [wanted.file]
        near = get_close_matches(wanted.file, files, _NAMED, 0.5) or [f for f in files if f.endswith(SUFFIXES)]
        held = f"It holds {', '.join(near[:_NAMED])}." if near else "It holds no weights."
        raise InvalidParameter(f"'{name}' has no file '{wanted.file[:80]}'.", hint=held)
    if any(folder <= set(files) for folder in _FOLDERS):
        return [f for f in files if "/" not in f and f.endswith(_BESIDE)]
    weights = [f for f in files if f.lower().endswith((*SUFFIXES, ".onnx"))]
    if len(weights) == 1:
        return weights
    if not weights:
        raise InvalidParameter(
            f"'{name}' holds no weights in a format that is read here.", hint=f"Those are {', '.join(SUFFIXES)}."
        )
    raise InvalidParameter(
        f"'{name}' holds {len(weights)} files of weights: {', '.join(weights[:_NAMED])}.",
        hint=f"Name one: {PREFIX}{name}:{weights[0]}",
    )


def file(repository: str, name: str, revision: str | None = None) -> Path:
    """One file of a repository, from the cache or the hub. Raises ExportFailed, SetupError."""
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()  # its retries are no news to a person
    return Path(asking(lambda: _download(repository, name, revision), repository, name))


def _download(repository: str, name: str, revision: str | None) -> str:
    """The client's own download, which waits silently for as long as a hub tells it to: so the hub is asked first."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import HTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    if _COMMIT.fullmatch(revision or ""):  # what a branch names may have moved
        with contextlib.suppress(LocalEntryNotFoundError):
            return hf_hub_download(repository, name, revision=revision, local_files_only=True)
    try:
        get_hf_file_metadata(hf_hub_url(repository, name, revision=revision))
    except (HTTPError, OSError, OfflineModeIsEnabled) as error:
        try:
            return hf_hub_download(repository, name, revision=revision, local_files_only=True)
        except LocalEntryNotFoundError:
            raise error from None
    return hf_hub_download(repository, name, revision=revision)


def asking(ask: Callable[[], T], repository: str, name: str = "") -> T:
    """What ``ask`` returns, which asks the hub about ``repository``; it is asked again where that may help.

    Raises:
        ExportFailed: the hub does not give it.
        SetupError: the disk is full.
    """
    from huggingface_hub.errors import HFValidationError, HTTPError, OfflineModeIsEnabled

    for left in reversed(range(TRIES)):
        try:
            return ask()
        except HFValidationError as error:
            raise InvalidParameter(f"'{repository}' cannot be a repository of the hub.", hint=_HINT) from error
        except (HTTPError, OSError, OfflineModeIsEnabled) as error:
            wait = hub_errors.pause(error)
            if not left or wait is None:
                raise hub_errors.sentence(error, repository, name) from error
            time.sleep(wait)
    raise AssertionError("the last try returns or raises")
