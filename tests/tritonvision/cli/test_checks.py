"""What doctor says of a machine, for machines that this one is not."""

import shutil
from types import SimpleNamespace

import pytest

from tritonvision import memory
from tritonvision.cli import checks
from tritonvision.server import run_folder
from tritonvision.settings import Settings

GB = 2**30


@pytest.mark.parametrize(
    ("version", "status"), [("2.51.0", "warn"), ("2.70.3", "warn"), ("2.71.0", "ok"), ("3.0", "ok")]
)
def test_a_tritonserver_without_the_known_fixes_is_told_with_what_protects_it(version, status):
    (finding,) = checks._security(version, "It listens on a Unix socket.")
    assert finding.status == status and "26.07" in finding.found and version in finding.found
    assert bool(finding.advice) == (status == "warn")


def test_an_unknown_version_gets_no_finding():
    assert not list(checks._security(None, "")) and not list(checks._security("version told once it runs", ""))


def test_in_a_container_with_a_limit_it_is_told_what_models_may_take(monkeypatch):
    monkeypatch.setattr(memory, "free", lambda: 8 * GB)
    monkeypatch.setattr(memory, "budget", lambda: 3 * GB)
    assert checks._memory().found == "8.0 GB free; in this container models may take 3.0 GB"


def test_little_memory_is_told_with_an_advice(monkeypatch):
    monkeypatch.setattr(memory, "budget", lambda: None)
    for free, status in ((8 * GB, "ok"), (2 * GB, "warn"), (GB // 2, "fail")):
        monkeypatch.setattr(memory, "free", lambda free=free: free)
        finding = checks._memory()
        assert (finding.status, bool(finding.advice)) == (status, status != "ok"), free
        assert finding.found == f"{free / GB:.1f} GB free"


def test_the_disk_is_that_of_the_repository_asked_even_where_it_is_not_there_yet(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: asked.append(path) or SimpleNamespace(free=GB))
    finding = checks._disk(Settings(repository=tmp_path / "not" / "yet"))
    assert asked == [tmp_path] and finding.status == "warn" and "1.0 GB" in finding.found and finding.advice


def test_a_log_folder_that_cannot_be_written_is_told_with_the_setting_that_names_another(monkeypatch, tmp_path):
    assert checks._log_folder(Settings(log_dir=tmp_path / "log")).status == "ok"
    monkeypatch.setattr(checks.os, "access", lambda path, mode: False)  # root may write everywhere
    finding = checks._log_folder(Settings(log_dir=tmp_path / "log"))
    assert finding.status == "warn" and "TRITONVISION_LOG_DIR" in finding.advice


def test_a_machine_without_a_place_for_a_running_server_is_told_why(monkeypatch, tmp_path):
    assert checks._run_folder().status == "ok"
    odd = tmp_path / "a folder"
    odd.mkdir()
    monkeypatch.setattr(run_folder, "_places", lambda: [odd])
    finding = checks._run_folder()
    assert finding.status == "fail" and "has letters in its name" in finding.found and "TMPDIR" in finding.advice


def test_folders_left_out_of_a_repository_are_reported(tmp_path):
    (tmp_path / "yolov8n-640 (copy)").mkdir()
    (tmp_path / "yolov8n-640 (copy)" / "manifest.json").write_text("{}")
    told = [finding.found for finding in checks._repository(Settings(repository=tmp_path)) if finding.status == "warn"]
    assert told[1].startswith("The folder 'yolov8n-640 (copy)'")
