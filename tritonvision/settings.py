"""The only reader of the environment: every setting, its default and its ``TRITONVISION_*`` variable."""

from __future__ import annotations

import difflib
import hashlib
import ipaddress
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, ByteSize, Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from tritonvision.api_keys import ApiKey
from tritonvision.errors import InvalidParameter

log = logging.getLogger(__name__)

_PREFIX = "TRITONVISION_"
_PORT = 9001
# What a value must be, by the kind of pydantic's complaint; all else is said as pydantic says it.
_MUST_BE: Mapping[str, str] = {
    "byte_size": "must be a size such as 8GB or 500MB", "byte_size_unit": "must be a size such as 8GB or 500MB",
    "int_parsing": "must be a whole number", "int_from_float": "must be a whole number",
    "float_parsing": "must be a number", "bool_parsing": "must be true or false",
    "greater_than": "must be over {gt}", "greater_than_equal": "must be at least {ge}",
    "empty_key": "must not be empty, which would let everybody in",
    "less_than": "must be under {lt}", "less_than_equal": "must be at most {le}",
}  # fmt: skip


_KEYS = "It is a JSON list of what a file of 'tritonvision keys new' holds; keys_file may name such a file."


def user_folder(below_home: str, system: str) -> Path:
    """A folder of this user's: below the home, or the system's own where the user has none, as in many containers."""
    try:
        return Path.home() / below_home
    except RuntimeError:  # HOME is not set, and the user is not in the list of users
        return Path(system)


def _default_repository() -> Path:
    """The checkout's ``model_repository`` when run from one, else a folder of the user's data."""
    checkout = Path(__file__).resolve().parent.parent
    if (checkout / "pyproject.toml").is_file() and (checkout / "model_repository").is_dir():
        return checkout / "model_repository"
    return user_folder(".local/share/tritonvision/model_repository", "/var/lib/tritonvision/model_repository")


# Variables that are no settings: tests have their own, and Kubernetes sets some for a Service of our name, or one that
# begins with it, such as tritonvision-gpu: TRITONVISION_GPU_PORT_9001_TCP_ADDR.
_OTHERS = re.compile(
    r"TRITONVISION_(TEST_|NEED_)|TRITONVISION_(\w+_)?(SERVICE_(HOST|PORT\w*)|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)$"
)
# Folders with a file for each secret, tritonvision_api_key say: Docker and Podman mount the first, deploy/ the second.
# What a file says may be said by a variable, too; the variable counts.
_SECRETS = Path("/run/secrets"), Path("/run/secrets/tritonvision")


class Settings(BaseSettings):
    """Settings of one server process; command-line options are laid over them."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, extra="ignore")

    repository: Path = Field(default_factory=_default_repository)
    host: str = "127.0.0.1"
    port: int = Field(_PORT, ge=1, le=65535)
    triton_url: str | None = Field(
        None, description="gRPC addresses of tritonservers somebody else runs, see docs/fleet.md"
    )
    server: str | None = Field(None, description="what AutoModel asks: http(s)://HOST:PORT or grpc://HOST:PORT")
    tritonserver: Path | None = Field(None, description="path of a tritonserver binary to run")
    api_key: str | None = Field(None, repr=False)
    # the wall around the embedded tritonserver
    sandbox: bool = Field(True, description="confine it: no network, no files but the models and what it runs on")
    fusion: bool = Field(True, description="run the steps around a network in its processes, where these use all cores")

    log_dir: Path = Field(default_factory=lambda: user_folder(".cache/tritonvision/log", "/var/log/tritonvision"))
    accepted_licenses: Path = Field(
        default_factory=lambda: user_folder(
            ".local/share/tritonvision/accepted_licenses.json", "/var/lib/tritonvision/accepted_licenses.json"
        ),
        description="file that remembers which licences of weights were accepted",
    )
    roboflow_url: str = Field("https://api.roboflow.com", description="where weights of Roboflow projects come from")
    roboflow_api_key: str | None = Field(
        None, repr=False, description="the key for them",
        validation_alias=AliasChoices("roboflow_api_key", "tritonvision_roboflow_api_key", "ROBOFLOW_API_KEY"),
    )  # fmt: skip
    vi_secret_key: str | None = Field(
        None, repr=False, description="the key that ViModel sends",
        validation_alias=AliasChoices("vi_secret_key", "tritonvision_vi_secret_key", "DATATURE_VI_SECRET_KEY"),
    )  # fmt: skip
    vi_organization_id: str | None = Field(
        None, description="the organization that ViModel tells",
        validation_alias=AliasChoices(
            "vi_organization_id", "tritonvision_vi_organization_id", "DATATURE_VI_ORGANIZATION_ID"
        ),
    )  # fmt: skip
    vi_endpoint: str | None = Field(
        None, description="what ViModel asks: http(s)://HOST:PORT or grpc://HOST:PORT",
        validation_alias=AliasChoices("vi_endpoint", "tritonvision_vi_endpoint", "DATATURE_VI_API_ENDPOINT"),
    )  # fmt: skip

    max_pixels: int = Field(50_000_000, ge=1, description="largest picture, in pixels")
    max_body_bytes: int = Field(64 * 1024 * 1024, ge=1, description="largest request body")
    max_grpc_message_bytes: int = Field(
        16 * 1024 * 1024, ge=1, description="largest message over gRPC; as many are received at once as fit into "
        "max_in_flight_bytes, half of them on streams",
    )  # fmt: skip
    max_batch: int = Field(32, ge=1, description="most pictures in one request")
    max_in_flight: int = Field(
        96, ge=1, description="most pictures being answered at once; of one model, or one key, three quarters of it"
    )
    max_in_flight_bytes: int = Field(
        512 * 1024 * 1024, ge=1, description="most request bytes held at once; of one key three quarters of it"
    )
    max_connections: int = Field(1000, ge=1, description="most open connections")
    read_timeout: float = Field(
        20.0, gt=0, description="seconds a sender may pause; and may take, besides a second for every 100 kB"
    )
    write_timeout: float = Field(
        60.0, gt=0, description="seconds a reader may pause; and may take, besides a second for every 100 kB"
    )
    drain: float = Field(3.0, ge=0, description="seconds between SIGTERM, when readiness fails, and the port's closing")
    deadline: float = Field(30.0, gt=0, description="seconds an answer may take")
    stream_idle_timeout: float = Field(
        120.0, gt=0, description="seconds a streamed answer may pause, its beginning included",
        validation_alias=AliasChoices(
            "stream_idle_timeout", "tritonvision_stream_idle_timeout",
            "tritonvision_silence",  # its name until 0.1; read for one more version
        ),
    )  # fmt: skip
    load_timeout: float = Field(30.0, gt=0, description="seconds a first request waits for its model")
    max_loaded: int | None = Field(None, ge=1, description="most models loaded at once; the least recently used leaves")
    memory_budget: ByteSize | None = Field(None, gt=0, description="what all loaded models may be reckoned at together")
    max_texts: int = Field(512, ge=1, description="most texts in one request")
    max_messages: int = Field(1000, ge=1, description="most messages in one conversation")
    max_regions: int = Field(256, ge=1, description="most regions of a picture in one request")
    response_cache: ByteSize = Field(
        ByteSize(64 * 1024 * 1024), ge=0, description="answers kept for the same requests; 0 keeps none"
    )
    kept_pictures: ByteSize = Field(
        ByteSize(256 * 1024 * 1024), ge=0, description="pictures kept under their image_id for later prompts"
    )
    kept_prompts: ByteSize = Field(
        ByteSize(512 * 1024 * 1024), ge=0,
        description="keys and values of earlier prompts, kept by each process that generates text; 0 keeps none",
    )  # fmt: skip
    # a fleet: how tritonservers of somebody else are reached, what facades share, where the repository comes from
    triton_token: str | None = Field(None, repr=False, description="shown to them with each call")
    triton_token_header: str = Field("authorization", description="the header that carries it")
    triton_tls: bool = Field(False, description="whether they are reached with TLS; a file below means yes")
    triton_authorities: Path | None = Field(None, description="PEM of the authorities that sign their certificates")
    triton_certificate: Path | None = Field(None, description="PEM of ours, for those that ask for one")
    triton_key: Path | None = Field(None, description="PEM of its key")
    redis_url: str | None = Field(None, repr=False, description="what several facades share: redis://HOST:PORT/0")
    redis_timeout: float = Field(0.2, gt=0, description="seconds until an answer of Redis is not waited for")
    repository_source: str | None = Field(
        None, description="where models are copied from: s3://, gs://, az://, oci:// or file:///"
    )
    repository_poll: float = Field(60.0, ge=0, description="seconds between two looks there; 0: when told, by SIGHUP")
    grpc_port: int | None = Field(None, ge=1, le=65535, description="port of KServe's v2 protocol over gRPC")

    export_missing: bool | None = Field(
        None, description="export a known, unpublished model on its first request; by default only on loopback"
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_json: bool = False

    # who may ask and manage; how it is encrypted
    keys_file: Path | None = Field(None, description="file of API keys, which 'tritonvision keys' writes")
    keys: tuple[ApiKey, ...] = Field((), repr=False, description="API keys, as a JSON list of what such a file holds")
    public_models: frozenset[str] = Field(
        frozenset(), description="ids of models that need no key where there are keys; '*' stands for any letters"
    )
    private_models: frozenset[str] = Field(
        frozenset(), description="ids of models for those keys alone that name them, which '*' alone does not"
    )
    manage: Literal["none", "key", "local"] = Field(
        "key", description="who may load, unload and export: nobody, keys that may (without keys everybody), or those "
        "from this machine",
    )  # fmt: skip
    tls_cert: Path | None = Field(None, description="PEM file of the certificate, and of those it depends on")
    tls_key: Path | None = Field(None, description="PEM file of its private key")

    cors_origins: frozenset[str] = Field(frozenset(), description="web pages that may ask; '*' lets every page")
    url_input: bool = True
    numpy_input: bool = True
    allow_http_url_hosts: frozenset[str] = frozenset()
    url_timeout: float = Field(10.0, gt=0)
    allowed_hosts: frozenset[str] = Field(
        frozenset(), description="names in Host besides those of this machine; '*' takes any, the default off loopback"
    )

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches the server."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"

    @model_validator(mode="before")
    @classmethod
    def _repository_elsewhere(cls, data: dict[str, Any]) -> dict[str, Any]:
        """A repository that is a URL is a source, and its copy is in a folder of the user's."""
        url = data.get("repository")
        if isinstance(url, str) and "://" in url:
            digest = hashlib.sha256(url.encode()).hexdigest()[:16]
            copy = user_folder(f".cache/tritonvision/repositories/{digest}", f"/var/cache/tritonvision/{digest}")
            data = data | {"repository": copy, "repository_source": url}
        return data

    @field_validator("port", mode="before")
    @classmethod
    def _not_of_kubernetes(cls, value: Any) -> Any:
        """Kubernetes sets TRITONVISION_PORT=tcp://... in every pod beside a Service that is called tritonvision."""
        if isinstance(value, str) and "://" in value:
            log.warning("TRITONVISION_PORT=%s is a Service's address, not a port, and is passed over.", value[:80])
            return _PORT
        return value

    @field_validator("api_key")
    @classmethod
    def _not_empty(cls, key: str | None) -> str | None:
        if key is not None and not key.strip():
            raise PydanticCustomError("empty_key", "must not be empty")
        return key

    @model_validator(mode="after")
    def _certificate_with_its_key(self) -> Settings:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise PydanticCustomError("half_a_certificate", "tls_cert and tls_key go together")
        return self

    @model_validator(mode="after")
    def _a_port_each(self) -> Settings:
        if self.port == self.grpc_port:
            raise PydanticCustomError("one_port", "port and grpc_port are two ports")
        return self

    @model_validator(mode="after")
    def _export_on_loopback(self) -> Settings:
        if self.export_missing is None:
            self.export_missing = self.loopback
        return self


def _unread(error: SettingsError | OSError) -> InvalidParameter:
    """Of a value that could not be read at all: a secret's file, or one that is not the JSON of several values."""
    cause = error if isinstance(error, OSError) else error.__cause__
    if isinstance(cause, OSError):
        return InvalidParameter(
            f"The secret {cause.filename} cannot be read: {cause.strerror}.",
            hint="Let the user of this process read it, or give the setting by its variable.",
        )
    field = re.search(r'field "(\w+)"', str(error))  # the text says no more than the name of the setting
    name = field[1] if field else "?"
    return InvalidParameter(
        f"The setting '{name}' must be JSON, as it holds several values.",
        hint=_KEYS if name == "keys" else f"""For example TRITONVISION_{name.upper()}='["one", "two"]'.""",
    )


@dataclass(frozen=True)
class Telemetry:
    """What OpenTelemetry's standard variables say of traces.

    Attributes:
        exporters: of ``otlp`` and ``console``; none where no traces are wanted.
        protocol: of OTLP: ``http/protobuf`` or ``grpc``.
    """

    exporters: tuple[str, ...] = ()
    protocol: str = "http/protobuf"


def read_telemetry() -> Telemetry:
    """Which traces are wanted. Without an exporter and without an endpoint there are none, unlike in OpenTelemetry's
    own default: nothing is sent anywhere that nobody named.
    """
    given = {name: value.strip() for name, value in os.environ.items() if name.startswith("OTEL_")}
    default = "otlp" if any(given.get(f"OTEL_EXPORTER_OTLP_{of}ENDPOINT") for of in ("", "TRACES_")) else ""
    wanted = [name.strip() for name in (given.get("OTEL_TRACES_EXPORTER") or default).split(",")]
    if given.get("OTEL_SDK_DISABLED", "").lower() == "true":
        wanted = []
    for name in set(wanted) - {"otlp", "console", "none", ""}:
        log.warning("OTEL_TRACES_EXPORTER=%s is not supported and is passed over; otlp and console are.", name[:80])
    protocol = given.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or given.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    return Telemetry(tuple(name for name in wanted if name in ("otlp", "console")), protocol or Telemetry.protocol)


def unknown_variables() -> dict[str, str]:
    """``TRITONVISION_*`` variables that no setting reads, and the one that each may be meant for, or an empty text."""
    known = [name.upper() for name in (*Settings.model_fields, "silence")]
    found = [name[len(_PREFIX) :] for name in os.environ if name.startswith(_PREFIX) and not _OTHERS.match(name)]
    return {
        _PREFIX + name: "".join(_PREFIX + near for near in difflib.get_close_matches(name, known, 1))
        for name in sorted(found) if name.upper() not in known
    }  # fmt: skip


# ---- one server process after another, see tritonvision/server/succession.py: nothing that a person sets

_PREDECESSOR = f"{_PREFIX}PREDECESSOR"


def take_predecessor() -> str | None:
    """What the process before this one told it, once; None where there was none."""
    return os.environ.pop(_PREDECESSOR, None)


def environment_of_successor(told: str) -> dict[str, str]:
    """The environment of the process after this one, which is told ``told``."""
    return os.environ | {_PREDECESSOR: told}


def read_settings(**options: Any) -> Settings:
    """The settings of the environment with ``options`` laid over them; those that are None are left out.

    What neither says is read from a file of secrets: ``/run/secrets/tritonvision_api_key`` is the setting ``api_key``.

    Raises InvalidParameter, which names the setting, when one does not fit, or the file that cannot be read.
    """
    secrets = [folder for folder in _SECRETS if folder.is_dir()] or None
    try:
        return Settings(
            _secrets_dir=secrets, **{name: value for name, value in options.items() if value is not None}
        )
    except (SettingsError, OSError) as error:
        raise _unread(error) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        if not name:  # several settings that do not fit each other
            raise InvalidParameter(f"The settings do not fit each other: {first['msg']}.") from error
        rule = _MUST_BE.get(first["type"])
        told = f"does not fit: {first['msg']}" if rule is None else rule.format(**first.get("ctx", {}))
        raise InvalidParameter(
            f"The setting '{name}' {told}.",
            hint=f"It comes from an option or from TRITONVISION_{str(first['loc'][0]).upper()}."
            + (f" Or from a file tritonvision_{first['loc'][0]} in {secrets[0]}." if secrets else ""),
        ) from error
