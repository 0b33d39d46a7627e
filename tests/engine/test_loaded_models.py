"""Who has to leave for another model, and who never does."""

from __future__ import annotations

import asyncio

import pytest

from tritonvision import machine
from tritonvision.engine.loaded_models import LoadedModels, footprint, only_for
from tritonvision.errors import NoRoom, Overloaded
from tritonvision.publication import Manifest
from tritonvision.variants import Variant

MB = 2**20


def manifest(name: str, megabytes: int = 100, **more) -> Manifest:
    facts = dict(
        id=name, family="f", task="t", head="h", weights="random", source="s", sha256="0", license="x",
        precision="fp32", labels=(), input_size=None, steps=("shared", f"net--{name}"), graph_bytes=megabytes * MB,
        processes=2,
    )  # fmt: skip
    return Manifest(**(facts | more))


A, B, C = manifest("a"), manifest("b"), manifest("c")


def test_a_model_is_reckoned_by_what_runs_here(monkeypatch):
    """A variant's networks count while it serves and can run; else those that were exported do."""
    small = Variant("openvino", "int8", ("",), graph_bytes=25 * MB)
    served = manifest("a", variants=(small,), serving=small.name)
    monkeypatch.setattr(machine, "why_not", lambda engine, precision: "")
    assert footprint(A) - footprint(served) == int(1.5 * 75 * MB)
    monkeypatch.setattr(machine, "why_not", lambda engine, precision: "It is not installed.")
    assert footprint(served) == footprint(A)


def run(work, most=None, budget=None):
    """``work(loaded_models, load, left)``: ``load`` makes room and adds, ``left`` lists who was sent away, in order."""

    async def body():
        left = []

        async def unload(names):
            left.append(names[0])

        loaded_models = LoadedModels(most, budget, unload)

        async def load(model, patience=1.0):
            async with loaded_models.room_for(model, patience):
                loaded_models.add(model)

        return await work(loaded_models, load, left)

    return asyncio.run(body())


def ids(loaded_models) -> list[str]:
    return sorted(m.id for m in loaded_models)


def test_the_least_recently_used_model_is_evicted_for_the_next():
    async def work(loaded_models, load, left):
        await load(A)
        await load(B)
        with loaded_models.using(A):  # A was loaded first, but used last
            pass
        await load(C)
        assert left == ["b"] and ids(loaded_models) == ["a", "c"]
        assert loaded_models.memory().evicted == 1

    run(work, most=2)


def test_a_memory_budget_is_kept_whatever_the_sizes():
    async def work(loaded_models, load, left):
        for model in (A, B):
            await load(model)
        await load(manifest("big", 250))
        assert left == ["a"] and sum(loaded_models.memory().reckoned.values()) <= 1000 * MB
        await load(manifest("bigger", 400))
        assert left == ["a", "b", "big"] and ids(loaded_models) == ["bigger"]

    run(work, budget=1000 * MB)


def test_a_model_with_running_requests_is_not_evicted_and_another_waits():
    async def work(loaded_models, load, left):
        await load(A)
        with loaded_models.using(A):
            loading = asyncio.create_task(load(B))
            for _ in range(10):
                await asyncio.sleep(0)
            assert left == [] and not loading.done()
        await loading
        assert left == ["a"] and ids(loaded_models) == ["b"]

    run(work, most=1)


def test_waiting_for_room_ends_with_a_sentence():
    async def work(loaded_models, load, left):
        await load(A)
        with loaded_models.using(A), pytest.raises(Overloaded, match="every loaded model is answering"):
            await load(B, patience=0.05)
        assert ids(loaded_models) == ["a"]

    run(work, most=1)


def test_a_model_over_the_budget_is_refused_and_none_is_evicted():
    async def work(loaded_models, load, left):
        await load(A)
        with pytest.raises(NoRoom, match="the memory budget is 400 MB"):  # as a person writes it: 400MB
            await load(manifest("huge", 1000))
        assert left == []

    run(work, budget=400 * 10**6)


def test_a_model_that_another_needs_stays_while_that_one_is_there():
    async def work(loaded_models, load, left):
        await load(A)
        await load(manifest("asks-a", needs=("a",)))
        with loaded_models.using(A):
            pass
        await load(C)
        assert left == ["asks-a"] and ids(loaded_models) == ["a", "c"]

    run(work, most=2)


def test_two_loads_at_once_do_not_both_take_the_last_place():
    async def work(loaded_models, load, left):
        await asyncio.gather(load(A), load(B), load(C))
        assert len(ids(loaded_models)) == 1

    run(work, most=1)


def test_a_model_is_reckoned_by_its_graphs_and_processes():
    assert footprint(manifest("m", 200, processes=3)) == 300 * MB + 180 * MB


def test_unloading_a_model_unloads_its_entry_points_and_unshared_steps():
    tower = manifest("tower", roles=("", "text"), steps=("shared", "net--tower", "net--tower--text"))
    assert only_for(tower, [A]) == ["tower", "tower--text", "net--tower", "net--tower--text"]
    assert only_for(tower, []) == ["tower", "tower--text", "shared", "net--tower", "net--tower--text"]


def test_steps_of_the_model_being_loaded_survive_an_eviction():
    """D comes, and E makes A leave meanwhile: what A and D share is not unloaded under D."""

    async def body():
        gone = []

        async def unload(names):
            gone.extend(names)

        loaded_models = LoadedModels(3, None, unload)
        for model in (A, manifest("c", steps=("net--c",))):
            async with loaded_models.room_for(model, 1.0):
                loaded_models.add(model)
        async with loaded_models.room_for(manifest("d"), 1.0):
            async with loaded_models.room_for(manifest("e", steps=("net--e",)), 1.0):
                pass
            await loaded_models.leave("c")
        return gone

    assert asyncio.run(body()) == ["a", "net--a", "c", "net--c"]


def test_steps_that_the_next_model_shares_stay_when_room_is_made_for_it():
    async def body():
        gone = []

        async def unload(names):
            gone.extend(names)

        loaded_models = LoadedModels(1, None, unload)
        for model in (A, B):
            async with loaded_models.room_for(model, 1.0):
                loaded_models.add(model)
        return gone

    assert asyncio.run(body()) == ["a", "net--a"]


def test_unloading_a_model_unloads_the_models_that_depend_on_it():
    async def work(loaded_models, load, left):
        await load(A)
        await load(manifest("asks-a", needs=("a",)))
        await loaded_models.leave("a")
        assert left == ["asks-a", "a"] and ids(loaded_models) == []
        await loaded_models.leave("nobody")
        assert left == ["asks-a", "a"]

    run(work)
