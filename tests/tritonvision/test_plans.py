"""A plan serves only where what it was built from and for is the same."""

from dataclasses import replace

import pytest

from tritonvision import gpus, plans

H200 = gpus.Gpu("NVIDIA H200", "9.0", "", "13.0", 141 << 30)
HERE = plans.key_on(
    H200, weights="a" * 64, family_version="0.1.0", tensorrt="10.13.0.35", precision="fp16", profile='{"pixels":[]}'
)


@pytest.fixture
def plan(tmp_path):
    path = tmp_path / "tensorrt-fp16-b8.plan"
    path.write_bytes(b"x" * 1000)
    plans.write_key(path, HERE, 12.34)
    return path


def test_a_plan_serves_where_its_key_is_that_of_the_machine(plan):
    assert plans.read_key(plan) == HERE
    assert plans.why_not(plan, HERE) == ""


@pytest.mark.parametrize("change, said", [
    ({"weights": "b" * 64}, "another graph"), ({"gpu": "NVIDIA L4"}, "another GPU"),
    ({"family_version": "0.2.0"}, "another version of the exporter"), ({"tensorrt": "10.14.0"}, "another TensorRT"),
    ({"compute_capability": "8.9"}, "another compute capability"), ({"mig": "1g.18gb"}, "another MIG profile"),
    ({"cuda": "12.8"}, "a driver of another CUDA"), ({"precision": "bf16"}, "another precision"),
    ({"profile": "{}"}, "other shapes"),
    ({"gpu": "NVIDIA L4", "compute_capability": "8.9"}, "another GPU and another compute capability"),
])  # fmt: skip
def test_each_part_of_the_key_counts_and_is_named(plan, change, said):
    assert plans.why_not(plan, replace(HERE, **change)) == f"The plan was built for {said}."


def test_what_a_plan_was_built_to_be_compatible_with_does_not_count():
    wide = replace(HERE, hardware="same-capability", version_compatible=True)
    elsewhere = replace(wide, gpu="NVIDIA H100", mig="1g.10gb", tensorrt="10.9.0")
    assert not wide.differs(elsewhere)
    assert wide.differs(replace(elsewhere, compute_capability="8.9")) == "another compute capability"
    assert wide.differs(replace(elsewhere, tensorrt="11.4.0")) == "another TensorRT"
    ampere = replace(HERE, hardware="ampere-plus")
    assert not ampere.differs(replace(ampere, gpu="NVIDIA L4", compute_capability="8.9"))
    assert ampere.differs(replace(ampere, compute_capability="7.5")) == "another compute capability"
    assert not HERE.differs(replace(HERE, cuda="13.2"))


def test_a_plan_that_is_truncated_missing_or_without_a_key_does_not_serve(plan):
    plan.write_bytes(b"x" * 999)
    assert plans.why_not(plan, HERE) == "The plan's file is not whole."
    plans.key_file(plan).write_text('{"key": {"gpu": 1}}')
    assert plans.why_not(plan, HERE) == "Nobody knows what the plan was built for."
    plans.key_file(plan).unlink()
    assert plans.why_not(plan, HERE) == "Nobody knows what the plan was built for."
    plan.unlink()
    assert plans.why_not(plan, HERE) == "No plan has been built yet."
