"""The only reader of the environment: every setting, its default and its ``TRITONVISION_*`` variable."""

from __future__ import annotations

import difflib
import ipaddress
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, ByteSize, Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

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


# Variables that are no settings: Kubernetes sets some for a Service of our name, and tests have their own.
_OTHERS = re.compile(r"TRITONVISION_(TEST_|NEED_|SERVICE_|PORT_)")


class Settings(BaseSettings):
    """Settings of one server process; command-line options are laid over them."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, extra="ignore")

    repository: Path = Field(default_factory=_default_repository)
    host: str = "127.0.0.1"
    port: int = Field(_PORT, ge=1, le=65535)
    triton_url: str | None = Field(None, description="gRPC address of a tritonserver somebody else runs")
    server: str | None = Field(None, description="what AutoModel asks: http(s)://HOST:PORT or grpc://HOST:PORT")
    tritonserver: Path | None = Field(None, description="path of a tritonserver binary to run")
    api_key: str | None = None
    log_dir: Path = Field(default_factory=lambda: user_folder(".cache/tritonvision/log", "/var/log/tritonvision"))

    max_pixels: int = Field(50_000_000, ge=1, description="largest picture, in pixels")
    max_body_bytes: int = Field(64 * 1024 * 1024, ge=1, description="largest request body")
    max_batch: int = Field(32, ge=1, description="most pictures in one request")
    max_in_flight: int = Field(64, ge=1, description="most pictures being answered at once")
    max_in_flight_bytes: int = Field(512 * 1024 * 1024, ge=1, description="most request bytes held at once")
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
    export_missing: bool | None = Field(
        None, description="export a known, unpublished model on its first request; by default only on loopback"
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_json: bool = False

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
    def _export_on_loopback(self) -> Settings:
        if self.export_missing is None:
            self.export_missing = self.loopback
        return self


def unknown_variables() -> dict[str, str]:
    """``TRITONVISION_*`` variables that no setting reads, and the one that each may be meant for, or an empty text."""
    known = [name.upper() for name in (*Settings.model_fields, "silence")]
    found = [name[len(_PREFIX) :] for name in os.environ if name.startswith(_PREFIX) and not _OTHERS.match(name)]
    return {
        _PREFIX + name: "".join(_PREFIX + near for near in difflib.get_close_matches(name, known, 1))
        for name in sorted(found) if name.upper() not in known
    }  # fmt: skip


def read_settings(**options: Any) -> Settings:
    """The settings of the environment with ``options`` laid over them; those that are None are left out.

    Raises InvalidParameter, which names the setting, when one does not fit.
    """
    try:
        return Settings(**{name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        rule = _MUST_BE.get(first["type"])
        told = f"does not fit: {first['msg']}" if rule is None else rule.format(**first.get("ctx", {}))
        raise InvalidParameter(
            f"The setting '{name}' {told}.",
            hint=f"It comes from an option or from TRITONVISION_{name.upper()}.",
        ) from error
