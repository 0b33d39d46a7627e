"""Licences of weights that somebody has to accept before they are used: what they ask, and which ones were accepted.

Accepting is asked for once: it is remembered by the licence's words in a file of this user's, the setting
``accepted_licenses``. A licence that only asks for its text or its source to be kept (Apache, MIT, AGPL) asks nothing
here.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tritonvision.catalog import Entry
from tritonvision.errors import InvalidParameter, SetupError
from tritonvision.settings import read_settings

NON_COMMERCIAL, RESEARCH, GATED = "non-commercial", "research", "gated"
_MEANS = {
    NON_COMMERCIAL: "they are not for commercial use", RESEARCH: "they are for research only",
    GATED: "its owner wants its terms to be accepted",
}  # fmt: skip


@dataclass(frozen=True)
class Terms:
    """The licence of some weights.

    Attributes:
        subject: what it is about, to be named in a sentence.
        license: in the owner's words.
        kind: why it has to be accepted: :data:`NON_COMMERCIAL`, :data:`RESEARCH` or :data:`GATED`; empty where it has
            not.
        key: by which its acceptance is remembered.
    """

    subject: str
    license: str
    kind: str = ""
    key: str = ""

    def sentence(self) -> str:
        """Whose licence it is, and what it asks."""
        return f"The licence of {self.subject} is '{self.license}': {_MEANS[self.kind]}."


class LicenseNotAccepted(InvalidParameter):
    """Weights whose licence nobody accepted yet."""

    def __init__(self, terms: Terms):
        super().__init__(terms.sentence(), hint="Read it; if you keep to it, say --accept-license: that is remembered.")
        self.terms = terms


def of_catalogue(entry: Entry) -> Terms:
    """The licence of the released weights of an id."""
    return Terms(f"the weights of {entry.id}", entry.license, entry.terms, entry.license)


def of_hub(repository: str, license: str, gated: bool) -> Terms:
    """The licence of a repository on the hub, by its card: an identifier such as ``cc-by-nc-4.0``, or empty."""
    told = license.lower()
    kind = GATED if gated else NON_COMMERCIAL if "-nc" in told or "noncommercial" in told.replace("-", "") else ""
    known = license not in ("", "other", "unknown")
    words = license if known else f"not told by {repository}"
    # an identifier means the same everywhere; a gate, and terms without a name, are those of one owner
    return Terms(repository, words, kind, license if known and not gated else f"{repository}: {words}")


def require(terms: Terms) -> None:
    """Raise LicenseNotAccepted where these terms have to be accepted and were not."""
    if terms.kind and terms.key not in _accepted(_store()):
        raise LicenseNotAccepted(terms)


def accept(terms: Terms) -> None:
    """Remember that these terms are accepted, with today's date. Raises SetupError where that cannot be written."""
    path = _store()
    found = _accepted(path) | {terms.key: datetime.date.today().isoformat()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
            json.dump(found, file, indent=1, ensure_ascii=False)
        os.replace(file.name, path)
    except OSError as error:
        raise SetupError(
            "That the licence is accepted cannot be remembered: its file cannot be written.",
            hint="Name another one with TRITONVISION_ACCEPTED_LICENSES.",
        ) from error


def _store() -> Path:
    return read_settings().accepted_licenses


def _accepted(path: Path) -> dict[str, str]:
    """Accepted licences with their dates; none where the file is missing or of another form."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    return {}
