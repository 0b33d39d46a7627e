"""Weights of a project on Roboflow: its ONNX package, by the API that Roboflow's own library asks.

``GET /models/v1/external/weights?modelId=PROJECT/VERSION`` with the key as a bearer token lists packages, page by page;
each names its files with addresses that need no key. The ONNX package is a folder as ``tritonvision import`` reads it.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, Field, ValidationError

from tritonvision import catalog
from tritonvision.errors import ExportFailed, InvalidParameter
from tritonvision.exporters.packages.files import CONFIG, WEIGHTS
from tritonvision.exporters.sources import patience
from tritonvision.exporters.sources.download import download

_PATH = "/models/v1/external/weights"
_ONNX = "onnx-model-package-v1"
_MOST_PAGES = 20


class _Listed(BaseModel):
    """One file of a package."""

    name: str = Field(alias="fileHandle")
    url: str = Field(alias="downloadUrl")
    md5: str | None = Field(None, alias="md5Hash")


class _OnnxManifest(BaseModel):
    """What the API tells of an ONNX package."""

    dynamic: bool = Field(False, alias="dynamicBatchSize")
    quantization: str = "unknown"


class _Package(BaseModel):
    """One package; those of other kinds have manifests of other forms."""

    type: Literal["external-model-package-v1"]
    id: str = Field(alias="packageId")
    manifest: dict[str, Any] = Field(alias="packageManifest")
    files: list[_Listed] = Field(alias="packageFiles")


class _Metadata(BaseModel):
    """One page about a model."""

    task: str | None = Field(None, alias="taskType")
    packages: list[dict[str, Any]] = Field(alias="modelPackages")
    next_page: str | None = Field(None, alias="nextPage")

    def readable(self) -> Iterator[_Package]:
        """Its packages; those of newer forms are left out."""
        for package in self.packages:
            with contextlib.suppress(ValidationError):
                yield _Package.model_validate(package)


def fetch(model_id: str, url: str, key: str | None, cache: Path) -> Path:
    """The folder of the ONNX package of ``model_id``, below ``cache``; what lies there already is not fetched again.

    Args:
        model_id: ``PROJECT/VERSION``.
        url: of the API.
        key: of the workspace.

    Raises:
        InvalidParameter: no key, or no such id can be.
        ExportFailed: Roboflow does not give it; the sentence says why.
        SetupError: the disk is full.
    """
    catalog.check_id(model_id)
    if not key:
        raise InvalidParameter(
            "Roboflow gives weights only to those who name a key.", hint="Put it into ROBOFLOW_API_KEY, or --api-key."
        )
    with httpx.Client() as client:
        pages = list(_pages(client, model_id, f"{url.rstrip('/')}{_PATH}", key))
        package = _best([package for page in pages for package in page.readable()], model_id)
        folder = cache / "roboflow" / model_id.replace("/", "--") / catalog.check_id(package.id)
        for file in package.files:
            if Path(file.name).name != file.name or file.name.startswith("."):
                raise _unreadable()
            if urlsplit(file.url).scheme not in ("https", urlsplit(url).scheme):
                raise _unreadable()
            download(client, file.url, folder / file.name, file.md5)
    if pages[0].task and not (folder / CONFIG).is_file():
        (folder / CONFIG).write_text(json.dumps({"task_type": pages[0].task, "backend_type": "onnx"}))
    return folder


def _best(packages: list[_Package], model_id: str) -> _Package:
    """The ONNX package in fp32, with a batch of any size if there is one. Raises ExportFailed where there is none."""
    try:
        found = [
            (package, _OnnxManifest.model_validate(package.manifest))
            for package in packages
            if package.manifest.get("type") == _ONNX and any(file.name == WEIGHTS for file in package.files)
        ]
    except ValidationError as error:
        raise _unreadable() from error
    if not found:
        kinds = sorted({str(package.manifest.get("type", "")).split("-model")[0] for package in packages})
        raise ExportFailed(
            f"Roboflow has no ONNX weights of '{model_id}', only {', '.join(kinds) or 'none at all'}.",
            hint="Train it as a model that Roboflow lets others download, or export the weights yourself.",
        )
    return max(found, key=lambda one: (one[1].quantization == "fp32", one[1].dynamic))[0]


def _pages(client: httpx.Client, model_id: str, url: str, key: str) -> Iterator[_Metadata]:
    """All that the API tells of a model. Raises ExportFailed."""
    asked = {"modelId": model_id}
    for _ in range(_MOST_PAGES):
        answer = _asked(client, url, asked, key)
        try:
            page = _Metadata.model_validate(answer.json()["modelMetadata"])
        except (ValueError, KeyError, TypeError) as error:
            raise _unreadable() from error
        yield page
        if page.next_page is None:
            return
        asked["startAfter"] = page.next_page


def _asked(client: httpx.Client, url: str, query: dict[str, str], key: str) -> httpx.Response:
    """One answer of the API, asked again where it is busy. Raises ExportFailed."""
    for left in reversed(range(patience.TRIES)):
        try:
            answer = client.get(url, params=query, headers={"Authorization": f"Bearer {key}"}, timeout=30)
        except httpx.HTTPError as error:
            if left:
                time.sleep(1)
                continue
            raise ExportFailed(
                "Roboflow cannot be reached.", hint="Fetch the package where there is a network and import its folder."
            ) from error
        wait = patience.pause(answer.status_code, answer.headers)
        if not left or wait is None:
            break
        time.sleep(wait)
    if answer.status_code >= 400:
        raise _refused(answer, query["modelId"])
    return answer


def _refused(answer: httpx.Response, model_id: str) -> ExportFailed:
    status = answer.status_code
    if status in (401, 403):
        return ExportFailed(
            f"Roboflow refuses the key for '{model_id}' ({status}).",
            hint="It must be the private key of the workspace that the project is in: ROBOFLOW_API_KEY, or --api-key.",
        )
    if status == 404:
        return ExportFailed(
            f"Roboflow has no '{model_id}' that this key may read.", hint="Ids are PROJECT/VERSION, as in helmets/3."
        )
    when = patience.when(answer.headers)
    return ExportFailed(f"Roboflow gives nothing for now: it answers {status}.", hint=f"Try again {when}.")


def _unreadable() -> ExportFailed:
    return ExportFailed(
        "What answers is not Roboflow's weights API, or speaks a newer form of it.",
        hint="Look at TRITONVISION_ROBOFLOW_URL, or download the package by hand and import its folder.",
    )
