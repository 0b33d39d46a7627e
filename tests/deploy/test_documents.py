"""What README.md, docs/containers.md and docs/kubernetes.md say about images and manifests is so."""

import re
from pathlib import Path

import pytest
from dockerfiles import arguments
from podman_runs import CONTAINED

TREE = Path(__file__).parents[2]
README, CONTAINERS, KUBERNETES = (
    (TREE / name).read_text() for name in ("README.md", "docs/containers.md", "docs/kubernetes.md")
)
RUNS = re.findall(r"^docker run -d .+?(?=^```|^docker)", (README + CONTAINERS).replace("\\\n", " "), re.M | re.S)


@pytest.mark.parametrize("text", [README, CONTAINERS, KUBERNETES], ids=["README", "containers", "kubernetes"])
def test_every_file_that_is_named_is_there(text):
    named = set(re.findall(r"\b((?:docker|deploy)/(?!secrets|overlays/mine)[\w./-]*\w)", text))
    assert len(named) >= 3
    for name in named:
        assert (TREE / name).exists(), name


def test_the_three_ways_of_the_readme_stand_in_the_documents_too():
    blocks = re.findall(r"```\n(.+?)```", README.split("## Run in production")[1].split("## Develop")[0], re.S)
    assert len(blocks) == 3
    for line in (line for block in blocks for line in block.splitlines()):
        if line.startswith(("docker build", "docker compose", "kubectl", "sed", "mkdir")):
            assert line.split("   ")[0] in CONTAINERS + KUBERNETES, line


def test_the_differences_of_the_image_of_nvidia_are_typed_out_as_they_are():
    section = CONTAINERS.split("## NVIDIA's container")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| `([A-Z]+)` \| (.+) \|$", section, re.M))
    ours, theirs = arguments("cpu"), arguments("server")
    assert rows.keys() == ours.keys()
    for name in ("BASE", "SYSTEM"):
        cells = rows[name].split(" | ")
        assert f"`{ours[name]}`" in cells[0] and f"`{theirs[name]}`" in cells[1]
    extras = set(re.findall(r"`([\w-]+)`", rows["EXTRAS"]))
    assert extras == set(ours["EXTRAS"].split(",")) ^ set(theirs["EXTRAS"].split(","))


def test_containers_are_run_as_they_are_tested():
    assert len(RUNS) == 2
    for told in RUNS:
        for option in ("--read-only", "--cap-drop=ALL", "--tmpfs /tmp", "--shm-size=1g", "--memory=4g", ":/models:ro"):
            assert option in told, told
    assert {"--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"} <= set(CONTAINED)
