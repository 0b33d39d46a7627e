"""What a container leaves a process is read from its control groups, of both versions, and of all groups above."""

import os

import pytest

from tritonvision import cgroups

GB = 2**30
V2, V1 = "0::/pod/box\n", "4:memory:/pod/box\n3:cpu,cpuacct:/pod/box\n0::/\n"


@pytest.fixture
def groups(monkeypatch, tmp_path):
    """A function that writes files of groups, by path, and which groups this process is in."""
    monkeypatch.setattr(cgroups, "_MOUNT", tmp_path)
    monkeypatch.setattr(cgroups, "_OWN", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))

    def write(own: str, files: dict[str, str]) -> None:
        (tmp_path / "own").write_text(own)
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)

    return write


@pytest.mark.parametrize(
    ("quota", "cores"), [("200000 100000", 2), ("150000 100000\n", 2), ("5000 100000", 1), ("max 100000", 64)]
)
def test_a_quota_of_time_bounds_the_cores(groups, quota, cores):
    groups(V2, {"pod/box/cpu.max": quota})
    assert cgroups.cores() == cores


@pytest.mark.parametrize(("quota", "cores"), [("300000\n", 3), ("-1\n", 64)])
def test_so_does_one_of_the_first_version(groups, quota, cores):
    groups(V1, {"cpu/pod/box/cpu.cfs_quota_us": quota, "cpu/pod/box/cpu.cfs_period_us": "100000\n"})
    assert cgroups.cores() == cores


def test_the_narrowest_of_all_groups_above_counts(groups):
    groups(V2, {
        "pod/box/cpu.max": "800000 100000", "pod/cpu.max": "400000 100000", "cpu.max": "max 100000",
        "pod/box/memory.max": "max\n", "pod/memory.max": f"{3 * GB}\n", "memory.max": f"{4 * GB}\n",
    })  # fmt: skip
    assert cgroups.cores() == 4 and cgroups.memory_limit() == 3 * GB


def test_a_container_that_sees_its_own_group_as_the_root_is_limited(groups):
    groups(V1, {"memory/memory.limit_in_bytes": f"{2 * GB}\n", "memory/memory.usage_in_bytes": f"{GB}\n",
                "memory/memory.stat": f"inactive_file 7\ntotal_inactive_file {GB // 2}\n"})  # fmt: skip
    assert (cgroups.memory_limit(), cgroups.memory_left()) == (2 * GB, 3 * GB // 2)


@pytest.mark.parametrize("own", [V2, V1, ""])
def test_without_a_limit_it_is_the_machine_that_counts(groups, own):
    groups(own, {"memory/pod/box/memory.limit_in_bytes": "9223372036854771712\n"})
    assert (cgroups.cores(), cgroups.memory_limit(), cgroups.memory_left()) == (64, None, None)


def test_the_processors_that_a_process_may_run_on_bound_it_too(groups, monkeypatch):
    groups(V2, {"cpu.max": "800000 100000"})
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 5})
    assert cgroups.cores() == 2
