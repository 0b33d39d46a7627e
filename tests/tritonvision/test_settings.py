"""Settings: what the environment of a person, a container or a cluster says is taken, or one sentence says why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tritonvision import AutoModel, settings
from tritonvision.errors import InvalidParameter
from tritonvision.settings import read_settings, unknown_variables


def test_the_address_of_a_kubernetes_service_is_passed_over_and_said(monkeypatch, caplog):
    monkeypatch.setenv("TRITONVISION_PORT", "tcp://10.96.12.7:9001")
    monkeypatch.setenv("TRITONVISION_SERVICE_HOST", "10.96.12.7")
    monkeypatch.setenv("TRITONVISION_PORT_9001_TCP", "tcp://10.96.12.7:9001")
    assert read_settings().port == 9001
    assert read_settings(port=9002).port == 9002
    assert "TRITONVISION_PORT=tcp://10.96.12.7:9001 is a Service's address" in caplog.text


def test_variables_of_services_whose_names_begin_with_ours_are_no_settings(monkeypatch):
    for name in ("GPU_SERVICE_HOST", "GPU_SERVICE_PORT_HTTP", "GPU_PORT_9001_TCP_ADDR", "SERVICE_PORT", "PORT_1_UDP"):
        monkeypatch.setenv(f"TRITONVISION_{name}", "1")
    assert unknown_variables() == {}


@pytest.fixture
def secrets(monkeypatch, tmp_path) -> Path:
    """A folder in the place of those where containers find their secrets."""
    monkeypatch.setattr(settings, "_SECRETS", (tmp_path / "missing", tmp_path))
    return tmp_path


def test_a_secret_may_be_a_file_and_a_variable_counts_more(monkeypatch, secrets):
    assert read_settings().api_key is None
    (secrets / "tritonvision_api_key").write_text("of the file\n")
    assert read_settings().api_key == "of the file"
    monkeypatch.setenv("TRITONVISION_API_KEY", "of the variable")
    assert read_settings().api_key == "of the variable"
    assert read_settings(api_key="of the option").api_key == "of the option"


def test_a_secret_that_does_not_fit_or_cannot_be_read_is_one_sentence(monkeypatch, secrets):
    (secrets / "tritonvision_api_key").write_text(" \n")
    with pytest.raises(InvalidParameter, match="'api_key' must not be empty") as caught:
        read_settings()
    assert "a file tritonvision_api_key in" in caught.value.hint

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", "/run/secrets/tritonvision_api_key")

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(InvalidParameter, match="The secret /run/secrets/tritonvision_api_key cannot be read: Perm"):
        read_settings()


def test_a_list_that_is_not_json_is_one_sentence_too(monkeypatch):
    monkeypatch.setenv("TRITONVISION_CORS_ORIGINS", "https://one.example")
    with pytest.raises(InvalidParameter, match="The setting 'cors_origins' must be JSON") as caught:
        read_settings()
    assert "TRITONVISION_CORS_ORIGINS=" in caught.value.hint


def test_keys_that_are_not_json_are_told_what_keys_look_like_and_not_repeated(monkeypatch):
    monkeypatch.setenv("TRITONVISION_KEYS", "sk-a-secret")
    with pytest.raises(InvalidParameter, match="The setting 'keys' must be JSON") as caught:
        read_settings()
    assert "tritonvision keys new" in caught.value.hint and "sk-a-secret" not in str(caught.value) + caught.value.hint


def test_a_setting_that_does_not_fit_is_one_sentence_that_names_it(monkeypatch):
    monkeypatch.setenv("TRITONVISION_PORT", "front")
    with pytest.raises(InvalidParameter, match="The setting 'port' must be a whole number") as caught:
        read_settings()
    assert caught.value.hint == "It comes from an option or from TRITONVISION_PORT."


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"GRPC_PORT": "9001"}, "port and grpc_port are two ports"),
        ({"TLS_CERT": "a.pem"}, "tls_cert and tls_key go together"),
    ],
)
def test_settings_that_do_not_fit_each_other_are_one_sentence(monkeypatch, given, why):
    for name, value in given.items():
        monkeypatch.setenv(f"TRITONVISION_{name}", value)
    with pytest.raises(InvalidParameter, match=f"The settings do not fit each other: {why}"):
        read_settings()


def test_automodel_says_it_in_the_same_words(monkeypatch):
    monkeypatch.setenv("TRITONVISION_PORT", "front")
    with pytest.raises(InvalidParameter, match="The setting 'port' must be a whole number"):
        AutoModel.from_pretrained("mediapipe-face-detection")


def test_a_user_without_a_home_has_the_folders_of_the_system(monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home directory")))
    assert read_settings().log_dir == Path("/var/log/tritonvision")


@pytest.mark.parametrize("name, value", [
    ("PORT", "0"), ("PORT", "99999"), ("MAX_BATCH", "0"), ("MAX_PIXELS", "-1"), ("MAX_BODY_BYTES", "0"),
    ("MAX_IN_FLIGHT", "0"), ("DEADLINE", "0"), ("LOAD_TIMEOUT", "-3"), ("READ_TIMEOUT", "0"), ("MAX_LOADED", "0"),
    ("MEMORY_BUDGET", "0"), ("URL_TIMEOUT", "0"), ("LOG_LEVEL", "loud"), ("API_KEY", ""), ("API_KEY", "  "),
])  # fmt: skip
def test_what_no_server_could_work_with_is_refused(monkeypatch, name, value):
    monkeypatch.setenv(f"TRITONVISION_{name}", value)
    with pytest.raises(InvalidParameter, match=f"The setting '{name.lower()}'"):
        read_settings()


def test_variables_that_no_setting_reads_are_known_with_what_may_be_meant(monkeypatch):
    for name in ("MAX_LOADED_MODELS", "PORT_9001_TCP", "SERVICE_HOST", "TEST_X", "SILENCE", "XYZZY"):
        monkeypatch.setenv(f"TRITONVISION_{name}", "1")
    meant = {"TRITONVISION_MAX_LOADED_MODELS": "TRITONVISION_MAX_LOADED", "TRITONVISION_XYZZY": ""}
    assert unknown_variables() == meant


@pytest.mark.parametrize("host, exports", [
    ("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("::", False), ("10.0.0.7", False),
])  # fmt: skip
def test_requests_of_other_machines_begin_exports_only_where_that_is_asked_for(host, exports):
    settings = read_settings(host=host)
    assert settings.loopback is exports and settings.export_missing is exports
    assert read_settings(host=host, export_missing=not exports).export_missing is not exports
