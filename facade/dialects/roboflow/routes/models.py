"""Roboflow's dialect: the routes about the loaded models."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from tritonvision import catalog
from tritonvision.engine.loaded_models import Served
from tritonvision.engine.plans import PlanBuild
from tritonvision.errors import BrokenModel, UnknownModel
from tritonvision.facade.context import context_of, service_of
from tritonvision.facade.dialects.common.body import read_body
from tritonvision.facade.dialects.common.names import possible
from tritonvision.facade.dialects.common.schemas import json_schema
from tritonvision.facade.dialects.operations import LOADING
from tritonvision.facade.dialects.roboflow.schemas import ModelRequest
from tritonvision.facade.replies import reply
from tritonvision.facade.routing import Routes
from tritonvision.facade.security.access import caller_of
from tritonvision.publication import Manifest

router = Routes(tags=[LOADING])


@router.get("/model/registry")
async def registry(request: Request) -> Response:
    """The loaded models, once under every name they have.

    Who may not load models sees all that load by being asked: clients ask only what is listed, and else load it first.
    """
    return await _listing(request)


@router.post("/model/add", openapi_extra=json_schema(ModelRequest))
async def add(request: Request) -> Response:
    """Load a model; nothing happens when it is loaded."""
    name = possible((await read_body(request, ModelRequest)).model_id)
    manifest = await _load(request, name)
    # A client looks for the name that it sent, with its workspace.
    extra = [_entry(name, manifest)] if name not in catalog.names_of(manifest.id) else []
    return await _listing(request, extra)


@router.post("/model/remove", openapi_extra=json_schema(ModelRequest))
async def remove(request: Request) -> Response:
    """Unload a model; nothing happens when it is not loaded."""
    service, name = service_of(request), (await read_body(request, ModelRequest)).model_id
    with contextlib.suppress(UnknownModel, BrokenModel):
        name = service.engine.repository.resolve(name).id
    caller_of(request).check_manage(request, catalog.canonical(name))
    await service.engine.unload(name)
    return await _listing(request)


@router.post("/model/clear")
async def clear(request: Request) -> Response:
    """Unload all models that the caller may manage."""
    await _unload_all(request)
    return await _listing(request)


@router.get("/start/{project}/{version}")
async def start(request: Request, project: str, version: str) -> Response:
    """Load a model before its first picture."""
    await _load(request, f"{project}/{version}")
    return reply({"status": 200, "message": f"{project}/{version} is loaded."})


@router.get("/clear_cache")
async def clear_cache(request: Request) -> Response:
    """Unload all models that the caller may manage."""
    await _unload_all(request)
    return reply("Cache cleared.")


async def _load(request: Request, name: str) -> Manifest:
    """Load a model. Of one that is loaded, nothing happens, so whoever may ask it may ask for that."""
    service, caller = service_of(request), caller_of(request)
    published = service.engine.repository.find(name)
    loaded = published is not None and any(other.id == published.id for other in service.engine.loaded())
    if published is None or not loaded or not caller.may_ask(published.id):
        service.check_manage(request, name)
    manifest = await service.engine.load(name)
    context_of(request).model = manifest.id
    return manifest


async def _unload_all(request: Request) -> None:
    service, caller = service_of(request), caller_of(request)
    caller.check_manage(request)
    for manifest in service.engine.loaded():
        if caller.reaches(manifest.id):
            await service.engine.unload(manifest.id)


async def _listing(request: Request, extra: list[dict[str, Any]] | None = None) -> Response:
    """From memory, since clients call this before every inference; for who may not load, from the disk, too."""
    service, caller = service_of(request), caller_of(request)
    memory = service.engine.memory()
    if caller.may_manage(request):
        models = [manifest for manifest in service.engine.loaded() if caller.sees(manifest.id)]
    else:
        models = await service.published(request)
    entries = [
        entry | {
            "memory_bytes": memory.reckoned.get(manifest.id, 0), "last_used": memory.last_used.get(manifest.id),
            **_served(memory.served.get(manifest.id)), **_plan(memory.plan_builds.get(manifest.id)),
        }
        for manifest in models
        for entry in _entries(manifest)
    ]  # fmt: skip
    return reply({
        "models": entries + (extra or []), "total_vram_bytes": None, "memory_bytes": sum(memory.reckoned.values()),
        "memory_budget_bytes": memory.budget, "max_loaded": memory.most, "evicted": memory.evicted,
        "refused": [{"model_id": name, "reason": why} for name, why in memory.refused.items() if caller.sees(name)],
    })  # fmt: skip


def _served(served: Served | None) -> dict[str, str]:
    """How its networks run: fields of our own."""
    return {"variant": served.variant, "variant_note": served.why_not} if served else {}


def _plan(build: PlanBuild | None) -> dict[str, Any]:
    """How far the TensorRT plans of a model are, where they are built on this machine: a field of our own."""
    return {"plan_build": asdict(build)} if build else {}


def _entries(manifest: Manifest) -> Iterator[dict[str, Any]]:
    return (_entry(name, manifest) for name in catalog.names_of(manifest.id))


def _entry(name: str, manifest: Manifest) -> dict[str, Any]:
    height, width = manifest.input_size or (None, None)
    return {
        "model_id": name, "task_type": manifest.task, "batch_size": None, "input_height": height,
        "input_width": width, "vram_bytes": None, "request_aliases": [], "request_paths": [],
        "weights": manifest.weights,  # a field of our own: answers of random weights are meaningless
    }  # fmt: skip
