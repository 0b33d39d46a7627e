"""What is free is that of the machine, or of the container that it runs in."""

import pytest

from tritonvision import cgroups, memory
from tritonvision.engine.loader import Loader
from tritonvision.server import Embedded
from tritonvision.server.control import Control
from tritonvision.settings import Settings

GB = 2**30


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A function that sets what the system tells of the machine and of its cgroup."""
    monkeypatch.setattr(cgroups, "_MOUNT", tmp_path)
    monkeypatch.setattr(cgroups, "_OWN", tmp_path / "own")
    (tmp_path / "own").write_text("0::/\n")
    monkeypatch.setattr(memory, "_PROC", tmp_path / "meminfo")

    def tell(meminfo: str, **cgroup: str) -> None:
        (tmp_path / "meminfo").write_text(meminfo)
        for name, text in cgroup.items():
            (tmp_path / f"memory.{name}").write_text(text)

    return tell


def test_what_files_are_cached_in_and_swap_are_free(machine):
    machine(f"MemTotal: 9 kB\nMemFree: 1 kB\nMemAvailable: {GB >> 10} kB\nSwapFree: {GB >> 10} kB\n")
    assert memory.free() == 2 * GB


@pytest.mark.parametrize(("limit", "free"), [("max\n", 64), (f"{9 * GB}\n", 8), (f"{128 * GB}", 64), (f"{GB // 2}", 0)])
def test_the_limit_of_a_container_counts(machine, limit, free):
    machine(f"MemAvailable: {64 * GB >> 10} kB\n", current=f"{GB}\n", max=limit)
    assert memory.free() == free * GB


def test_files_that_a_container_caches_are_free(machine):
    stat = f"anon {GB}\ninactive_file {2 * GB}\n"
    machine(f"MemAvailable: {64 * GB >> 10} kB\n", current=f"{4 * GB}", max=f"{5 * GB}", stat=stat)
    assert memory.free() == 3 * GB


def test_a_system_that_tells_nothing_is_asked_otherwise(machine):
    machine("")
    assert memory.free() > 0


def test_models_get_what_the_limit_of_a_container_leaves_them(machine):
    machine("", max=f"{4 * GB}\n", current="0\n")
    assert memory.budget() == int(0.85 * 4 * GB) - 400 * 2**20


def test_without_such_a_limit_they_get_what_the_machine_leaves_them(machine, monkeypatch):
    machine("", max="max\n")
    monkeypatch.setattr(memory.os, "sysconf", {"SC_PHYS_PAGES": 8 * GB // 4096, "SC_PAGE_SIZE": 4096}.__getitem__)
    assert memory.budget() == int(0.85 * 8 * GB) - 400 * 2**20


def test_an_engine_of_ours_keeps_its_models_below_it_unless_a_budget_is_given(machine, tmp_path):
    machine("", max=f"{2 * GB}\n", current="0\n")
    ours, theirs = object.__new__(Embedded), object.__new__(Control)
    settings = Settings(repository=tmp_path)

    def budget(settings: Settings, admin: Embedded | Control) -> int | None:
        return Loader(settings, admin, lambda name: None).loaded_models.budget

    assert budget(settings, ours) == memory.budget() and budget(settings, theirs) is None
    assert budget(settings.model_copy(update={"memory_budget": 7}), ours) == 7
