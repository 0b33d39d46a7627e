"""The script that measures on a GPU: what it reads and writes, where there is none."""

import importlib.util
import os
import subprocess
from pathlib import Path

import pytest

TREE = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("gpu_figures", TREE / "benchmarks" / "gpu.py")
gpu = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(gpu)
SAID = """[I] Throughput: 1234.5 qps
[I] Latency: min = 0.79 ms, max = 1.9 ms, mean = 0.84 ms, median = 0.82 ms, percentile(99%) = 1.1 ms
[I] Enqueue Time: min = 0.01 ms, median = 0.02 ms
"""


def test_the_median_of_trtexec_is_read():
    assert gpu.latency(SAID) == "0.82"
    assert gpu.latency("nothing of the kind").startswith("failed")


def test_the_document_is_one_table_with_the_machine_above_it():
    text = gpu.document([["m", "fp16", *["1"] * (len(gpu.COLUMNS) - 2)]], "a GPU")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 3 and {row.count("|") for row in rows} == {len(gpu.COLUMNS) + 1}
    assert "on a GPU" in text


@pytest.mark.skipif(bool(subprocess.run(["which", "nvidia-smi"], capture_output=True).stdout), reason="there is a GPU")
def test_without_a_gpu_the_script_says_in_one_sentence_what_is_missing():
    done = subprocess.run(
        [TREE / "tests" / "gpu" / "run.sh"], capture_output=True, text=True, env=os.environ, cwd=TREE
    )
    assert done.returncode == 3 and not done.stdout
    sentence, hint = done.stderr.strip().splitlines()
    assert sentence.startswith("Error: This machine lacks: nvidia-smi") and hint.startswith("Hint: ")
