"""What ``make fuzz`` calls for minutes, for a moment and without a fuzzer: whole inputs, cut ones and damaged ones."""

from __future__ import annotations

import numpy as np
import pytest
from fuzz_targets import TARGETS

pytestmark = pytest.mark.attack("malformed input of our own parsers")


@pytest.mark.parametrize("name", TARGETS)
def test_whole_inputs_are_read_and_nothing_in_a_damaged_one_escapes(name):
    target = TARGETS[name]
    random = np.random.default_rng(0)
    seeds = target.seeds()
    for seed in (*seeds, b""):
        target.read(seed)
        target.read(seed[: len(seed) // 2])
        for _ in range(100 // len(seeds)):
            damaged = bytearray(seed or b"\0")
            for place in random.integers(0, len(damaged), 3):
                damaged[place] = random.integers(0, 256)
            target.read(bytes(damaged))
