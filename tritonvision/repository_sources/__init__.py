"""Model repositories that lie elsewhere: in a bucket of S3, GCS or Azure, a folder, or a registry of OCI artefacts.

They are sources: what serves is a copy on this machine (:mod:`.copying`), since a server must not wait for, or change
with, what lies elsewhere.
"""

from __future__ import annotations

from tritonvision.errors import SetupError
from tritonvision.repository_sources.remote import Source

_MISSING = "pip install 'tritonvision[sources]'"


def source_of(url: str) -> Source:
    """The source that ``url`` names.

    Args:
        url: ``s3://BUCKET/PREFIX``, ``gs://``, ``az://``, ``file:///FOLDER``, ``oci://REGISTRY/NAME:TAG``.

    Raises:
        SetupError: the package for it is missing, or it is no such URL.
    """
    try:
        if url.startswith("oci://"):
            from tritonvision.repository_sources.oci import Artefact

            return Artefact(url)
        from tritonvision.repository_sources.objects import Bucket

        return Bucket(url)
    except ModuleNotFoundError as error:
        told = f"The source {url} needs the package '{error.name}'."
        raise SetupError(told, hint=f"Get it with: {_MISSING}") from None
