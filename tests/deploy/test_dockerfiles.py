"""The Dockerfiles: one body, pinned and without root; what differs between images are the arguments at their head."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
from dockerfiles import IMAGES, arguments, instructions

import tritonvision
from tritonvision.server.fixes import SAFE_LINE

TREE = Path(__file__).parents[2]
PROJECT = tomllib.loads((TREE / "pyproject.toml").read_text())


def body(image: str) -> list[str]:
    return instructions(image)[len(arguments(image)) :]


def test_there_are_four_images():
    assert IMAGES.keys() == {"cpu", "server", "facade", "exporter"}


@pytest.mark.parametrize("image", ["server", "facade"])
def test_what_is_built_here_is_what_the_others_are_but_for_the_arguments_at_the_head(image):
    assert body(image) == body("cpu")
    assert arguments(image).keys() == arguments("cpu").keys() == {"BASE", "SYSTEM", "EXTRAS", "TITLE"}


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_is_of_a_pinned_base_and_of_extras_that_there_are(image):
    told = arguments(image)
    assert re.fullmatch(r"(debian:bookworm-slim|nvcr\.io/nvidia/tritonserver:\d\d\.\d\d-py3)", told["BASE"])
    assert set(told["EXTRAS"].split(",")) <= PROJECT["project"]["optional-dependencies"].keys()
    assert told["TITLE"] == f"tritonvision-{image}"
    assert f'org.opencontainers.image.version="{tritonvision.__version__}"' in IMAGES[image]


@pytest.mark.parametrize("image", IMAGES)
def test_every_package_comes_with_the_versions_of_the_constraints(image):
    installs = re.findall(r"pip[^&|]* install [^&]*", " ".join(instructions(image)))
    assert installs and all("-c /src/constraints.txt" in install for install in installs)


@pytest.mark.parametrize("image", IMAGES)
def test_nothing_runs_as_root_and_the_user_is_a_number(image):
    last_stage = instructions(image)[[i for i, line in enumerate(instructions(image)) if line.startswith("FROM")][-1] :]
    assert [line for line in last_stage if line.startswith("USER")] == ["USER 10001:10001"]
    assert not any("venv" in line and line.startswith("RUN") for line in last_stage)


def test_the_base_of_the_server_has_the_security_fixes_that_the_doctor_knows():
    release = re.search(r":(\d\d\.\d\d)-py3$", arguments("server")["BASE"])
    assert release and f"r{release[1]}" >= SAFE_LINE


@pytest.mark.parametrize("image", IMAGES)
def test_no_index_of_packages_is_named(image):
    text = "\n".join(instructions(image))
    assert "--mount=type=secret,id=pip,target=/etc/pip.conf" in text
    assert "index-url" not in text and "http://" not in text.replace("http.client", "") and "https://" not in text


def test_the_context_is_what_the_package_is_built_of():
    kept = [line[1:] for line in (TREE / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    needed = {"pyproject.toml", "constraints.txt", PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]}
    needed |= set(PROJECT["tool"]["setuptools"]["package-dir"].values())
    assert set(kept) == needed
    assert all((TREE / name).exists() for name in kept)
    assert not any(fnmatch(".venv", name) or fnmatch("tests", name) for name in kept)
