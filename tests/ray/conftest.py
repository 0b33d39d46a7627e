"""A Ray cluster of two nodes on this machine; ``make test-ray`` gives it a network of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"


@pytest.fixture
def cluster():
    """Two nodes, each with room for one worker."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.add_node(num_cpus=1)
    made.wait_for_nodes()
    yield made
    made.shutdown()


@pytest.fixture
def command(served_repository) -> Callable[..., list[str]]:
    """``command(pictures, out, address)``: a batch on the cluster there."""

    def line(pictures: Path, out: Path, address: str) -> list[str]:
        return [
            sys.executable, "-m", "tritonvision", "batch", str(pictures), "--model", "mediapipe-face-detection",
            "--out", str(out), "--repository", str(served_repository), "--shard", "8", "--at-once", "4",
            "--engine", "ray", "--ray-address", address, "--json",
        ]  # fmt: skip

    return line
