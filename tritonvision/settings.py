"""The only reader of the environment: every setting, its default and its ``TRITONVISION_*`` variable."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, ByteSize, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from tritonvision.errors import InvalidParameter

log = logging.getLogger(__name__)

_PORT = 9001
# What a value must be, by the kind of pydantic's complaint; all else is said as pydantic says it.
_MUST_BE: Mapping[str, str] = {
    "byte_size": "must be a size such as 8GB or 500MB", "byte_size_unit": "must be a size such as 8GB or 500MB",
    "int_parsing": "must be a whole number", "int_from_float": "must be a whole number",
    "float_parsing": "must be a number", "bool_parsing": "must be true or false",
    "greater_than": "must be over {gt}", "greater_than_equal": "must be at least {ge}",
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


class Settings(BaseSettings):
    """Settings of one server process; command-line options are laid over them."""

    model_config = SettingsConfigDict(env_prefix="TRITONVISION_", extra="ignore")

    repository: Path = Field(default_factory=_default_repository)
    host: str = "127.0.0.1"
    port: int = _PORT
    triton_url: str | None = Field(None, description="gRPC address of a tritonserver somebody else runs")
    server: str | None = Field(None, description="what AutoModel asks: http(s)://HOST:PORT or grpc://HOST:PORT")
    tritonserver: Path | None = Field(None, description="path of a tritonserver binary to run")
    api_key: str | None = None
    log_dir: Path = Field(default_factory=lambda: user_folder(".cache/tritonvision/log", "/var/log/tritonvision"))

    max_pixels: int = Field(50_000_000, description="largest picture, in pixels")
    max_body_bytes: int = Field(64 * 1024 * 1024, description="largest request body")
    max_batch: int = Field(32, description="most pictures in one request")
    max_in_flight: int = Field(64, description="most pictures being answered at once")
    max_in_flight_bytes: int = Field(512 * 1024 * 1024, description="most request bytes held at once")
    deadline: float = Field(30.0, description="seconds an answer may take")
    stream_idle_timeout: float = Field(
        120.0, description="seconds a streamed answer may pause, its beginning included",
        validation_alias=AliasChoices(
            "stream_idle_timeout", "tritonvision_stream_idle_timeout",
            "tritonvision_silence",  # its name until 0.1; read for one more version
        ),
    )  # fmt: skip
    load_timeout: float = Field(30.0, description="seconds a first request waits for its model")
    max_loaded: int | None = Field(None, description="most models loaded at once; the least recently used one leaves")
    memory_budget: ByteSize | None = Field(None, description="what all loaded models may be reckoned at together")
    max_texts: int = Field(512, description="most texts in one request")
    max_regions: int = Field(256, description="most regions of a picture in one request")
    response_cache: ByteSize = Field(
        ByteSize(64 * 1024 * 1024), description="answers kept for the same requests; 0 keeps none"
    )
    export_missing: bool = Field(True, description="export a known, unpublished model on its first request")

    cors_origins: frozenset[str] = Field(frozenset(), description="web pages that may ask; '*' lets every page")
    url_input: bool = True
    numpy_input: bool = True
    allow_http_url_hosts: frozenset[str] = frozenset()
    url_timeout: float = 10.0

    @field_validator("port", mode="before")
    @classmethod
    def _not_of_kubernetes(cls, value: Any) -> Any:
        """Kubernetes sets TRITONVISION_PORT=tcp://... in every pod beside a Service that is called tritonvision."""
        if isinstance(value, str) and "://" in value:
            log.warning("TRITONVISION_PORT=%s is a Service's address, not a port, and is passed over.", value[:80])
            return _PORT
        return value


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
