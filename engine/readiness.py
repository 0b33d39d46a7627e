"""Whether one model would answer now, and why not: as Triton tells, and as its processes are seen."""

from __future__ import annotations

from collections.abc import Callable

from tritonvision.engine.loader import Loader
from tritonvision.engine.triton_calls import TritonCalls
from tritonvision.publication import Manifest
from tritonvision.server import Embedded


async def why_not_ready(
    manifest: Manifest, loader: Loader, client: TritonCalls, server: Embedded | None,
    resolve: Callable[[str], Manifest],
) -> str:  # fmt: skip
    """One sentence why ``manifest`` would not answer at once, empty where it would.

    Triton calls a model ready whose process is dead, so the processes of our own server are counted, too.

    Raises:
        UnknownModel: a model that it asks is not published.
    """
    if why := loader.loaded_models.why_refused(manifest):
        return why
    if loader.loaded_models.get(manifest.id) is None:
        if loader.loading(manifest.id):
            return f"'{manifest.id}' is being loaded."
        return f"'{manifest.id}' is not loaded; its first request loads it."
    # steps that run in the processes of a network have none of their own
    steps = [step for step in manifest.steps if server is None or server.instances(step)]
    for part in (*manifest.triton_names, *steps):
        if not await client.ready(part):
            return f"The inference server does not have '{part}' ready."
        if server is not None and not server.whole(part):
            return f"A process of '{part}' is being replaced."
    for need in manifest.needs:
        if why := await why_not_ready(resolve(need), loader, client, server, resolve):
            return why
    return ""
