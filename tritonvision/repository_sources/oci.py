"""Artefacts in a registry of containers, as ``oras push`` writes them: a layer a file, its path in its title."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import oras.client
import requests

from tritonvision.errors import ServerUnavailable, SetupError
from tritonvision.repository_sources.remote import Remote

_TITLE = "org.opencontainers.image.title"
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


class Artefact:
    """The files of one artefact. Credentials are those of ``docker login`` or ``oras login``.

    Args:
        url: ``oci://REGISTRY/NAME:TAG``; a registry on this machine is asked without TLS.

    Raises:
        SetupError: it names no artefact.
    """

    def __init__(self, url: str):
        self.url, self._name = url, url.removeprefix("oci://")
        host = self._name.partition("/")[0]
        if not host or "/" not in self._name or ":" not in self._name.rpartition("/")[2]:
            raise SetupError(f"{url} names no artefact.", hint="Give oci://REGISTRY/NAME:TAG.")
        insecure = host.rpartition(":")[0] in _LOOPBACK or host in _LOOPBACK
        self._client = oras.client.OrasClient(hostname=host, insecure=insecure)

    def list(self) -> Iterator[Remote]:
        """As :meth:`~tritonvision.repository_sources.remote.Source.list`."""
        try:
            manifest = self._client.get_manifest(self._name)
        except (requests.RequestException, ValueError, OSError) as error:
            raise self._silent(error) from error
        for layer in manifest.get("layers", ()):
            title = (layer.get("annotations") or {}).get(_TITLE)
            if title:
                yield Remote(str(title).removeprefix("./"), int(layer["size"]), str(layer["digest"]))

    def fetch(self, remote: Remote, target: Path) -> None:
        """As :meth:`~tritonvision.repository_sources.remote.Source.fetch`."""
        try:
            self._client.download_blob(self._name, remote.mark, str(target))
        except (requests.RequestException, ValueError) as error:
            raise self._silent(error) from error

    def _silent(self, error: Exception) -> ServerUnavailable:
        first = str(error).partition("\n")[0][:300]
        return ServerUnavailable(f"The source {self.url} cannot be read: {first}", retry_after=60)
