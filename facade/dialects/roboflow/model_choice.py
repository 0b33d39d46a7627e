"""Roboflow's dialect: the model of a request, from its name or from the default of its route."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection
from typing import Protocol

from starlette.requests import Request

from tritonvision import catalog
from tritonvision.errors import BrokenModel, UnknownModel
from tritonvision.facade.context import service_of
from tritonvision.facade.dialects.common.names import possible
from tritonvision.facade.security.access import caller_of
from tritonvision.publication import Manifest, Repository


async def model_of(request: Request, name: str, tasks: Collection[str]) -> Manifest:
    """The published model ``name``, checked to do one of ``tasks``.

    Raises:
        InvalidParameter: no model can have this name; the contract has a 400 for it, and a 404 for an unused name.
        UnknownModel, ModelLoading, NotSupported: as :meth:`tritonvision.facade.service.Service.manifest`.
    """
    return await service_of(request).manifest(request, possible(name), tasks)


class NamesModel(Protocol):
    """The body of a request with an optional model name."""

    model_id: str

    @property
    def model_fields_set(self) -> set[str]:
        """Names of the fields that are set."""


async def named(request: Request, ask: NamesModel, core: str, field: str) -> str:
    """The name of the model of a request to a foundation route: its ``model_id``, else its version.

    The routes send a version, never an id, and applications often send none: then the route's default is used, or the
    model of :func:`fallback`. Only an omitted version falls back to another model. A version may also be a model's full
    name.

    Args:
        ask: has ``field``, too.
        core: what the contract puts before the version, ``core/version``.
    """
    if ask.model_id:
        return ask.model_id
    version, repository = getattr(ask, field), service_of(request).engine.repository
    name = f"{core}/{version}"
    if field in ask.model_fields_set:
        return name if _known(repository, name) or not _known(repository, version) else version
    may_ask = caller_of(request).may_ask
    return await asyncio.to_thread(fallback, repository, name, may_ask)  # it may read every manifest


def _known(repository: Repository, name: str) -> bool:
    """Whether the catalogue or the repository has a model of that name."""
    try:
        return catalog.canonical(name) in catalog.entries() or repository.find(name) is not None
    except UnknownModel:  # no model can have this name
        return False


def fallback(repository: Repository, default: str, may_ask: Callable[[str], bool] = bool) -> str:
    """``default``, a name of the catalogue, where it is published, else the closest published model of its family.

    What the caller may not ask counts as not published.

    Closest: what the catalogue knows before what a user exported; ids of the same ending first (a TrOCR for print
    before one for handwriting), then the nearest in size. So SAM's ``vit_h`` is replaced by ``vit_l``, then by
    ``vit_b``. Without a published model of the family the result is ``default``, which then raises UnknownModel.
    """
    with contextlib.suppress(UnknownModel, BrokenModel):
        if may_ask(repository.resolve(default).id):
            return default
    wanted = catalog.find(default)

    def distance(manifest: Manifest) -> tuple[bool, bool, float]:
        entry = catalog.entries().get(manifest.id)
        other_ending = manifest.id.rpartition("-")[2] != wanted.id.rpartition("-")[2]
        size = entry.params_m if entry else None
        apart = float("inf") if size is None or wanted.params_m is None else abs(size - wanted.params_m)
        return entry is None, other_ending, apart

    family = [m for m in repository if m.family == wanted.family and m.task == wanted.task and may_ask(m.id)]
    return min(family, key=distance).id if family else default
