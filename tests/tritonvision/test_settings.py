"""Settings: what the environment of a person, a container or a cluster says is taken, or one sentence says why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tritonvision import AutoModel
from tritonvision.errors import InvalidParameter
from tritonvision.settings import read_settings


def test_the_address_of_a_kubernetes_service_is_passed_over_and_said(monkeypatch, caplog):
    monkeypatch.setenv("TRITONVISION_PORT", "tcp://10.96.12.7:9001")
    monkeypatch.setenv("TRITONVISION_SERVICE_HOST", "10.96.12.7")
    monkeypatch.setenv("TRITONVISION_PORT_9001_TCP", "tcp://10.96.12.7:9001")
    assert read_settings().port == 9001
    assert read_settings(port=9002).port == 9002
    assert "TRITONVISION_PORT=tcp://10.96.12.7:9001 is a Service's address" in caplog.text


def test_a_setting_that_does_not_fit_is_one_sentence_that_names_it(monkeypatch):
    monkeypatch.setenv("TRITONVISION_PORT", "front")
    with pytest.raises(InvalidParameter, match="The setting 'port' must be a whole number") as caught:
        read_settings()
    assert caught.value.hint == "It comes from an option or from TRITONVISION_PORT."


def test_automodel_says_it_in_the_same_words(monkeypatch):
    monkeypatch.setenv("TRITONVISION_PORT", "front")
    with pytest.raises(InvalidParameter, match="The setting 'port' must be a whole number"):
        AutoModel.from_pretrained("mediapipe-face-detection")


def test_a_user_without_a_home_has_the_folders_of_the_system(monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home directory")))
    assert read_settings().log_dir == Path("/var/log/tritonvision")
