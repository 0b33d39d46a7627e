"""``tritonvision keys``: a key is shown once, and what a server reads has only its digest."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from tritonvision import api_keys
from tritonvision.cli.keys import keys
from tritonvision.errors import InvalidParameter, SetupError


@pytest.fixture
def run(tmp_path, monkeypatch):
    """``run("list", ...)``: the command on one file, and that file as ``run.path``."""
    monkeypatch.delenv("TRITONVISION_KEYS_FILE", raising=False)
    path = tmp_path / "keys.jsonl"

    def run(*arguments: str):
        return CliRunner().invoke(keys, [*arguments, "--file", str(path)])

    run.path = path
    return run


def test_a_new_key_is_printed_once_and_known_by_its_digest(run):
    done = run("new", "cameras", "--models", "yolov8*", "--models", "mine/*", "--rate", "5", "--concurrency", "2")
    assert done.exit_code == 0
    text = done.stdout.strip()
    (kept,) = api_keys.read(run.path)
    assert kept.sha256 == api_keys.digest(text) and text not in run.path.read_text()
    assert (kept.models, kept.may, kept.rate, kept.concurrency) == (("yolov8*", "mine/*"), {"ask"}, 5, 2)
    assert kept.created


def test_keys_are_listed_without_digests_and_revoked_by_name(run):
    run("new", "cameras")
    run("new", "admin", "--manage", "--models", "**")
    told = run("list").stdout
    assert "cameras  *  ask  no limits" in told and "admin  **  ask+manage" in told
    found = json.loads(run("list", "--json").stdout)
    assert [one["name"] for one in found] == ["cameras", "admin"] and "sha256" not in found[0]
    assert run("revoke", "cameras").exit_code == 0
    assert [one.name for one in api_keys.read(run.path)] == ["admin"]


@pytest.mark.parametrize("arguments, kind", [
    (("new", "a b"), InvalidParameter), (("new", "x", "--rate", "0"), InvalidParameter),
    (("new", "cameras"), InvalidParameter), (("revoke", "nobody"), InvalidParameter),
])  # fmt: skip
def test_what_does_not_fit_is_one_sentence_and_changes_nothing(run, arguments, kind):
    run("new", "cameras")
    before = run.path.read_bytes()
    done = run(*arguments)
    assert isinstance(done.exception, kind) and done.exception.message
    assert run.path.read_bytes() == before


def test_without_a_file_it_asks_for_one_and_a_broken_one_is_not_overwritten(run):
    with pytest.raises(InvalidParameter, match="Which file"):
        CliRunner().invoke(keys, ["list"], catch_exceptions=False)
    run.path.write_text("no key\n")
    assert isinstance(run("new", "cameras").exception, SetupError)
    assert run.path.read_text() == "no key\n"
