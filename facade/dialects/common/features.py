"""One vector a picture, of every model that has one: an embedder's answer, or what a classifier's last layer reads."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request

from tritonvision import tasks
from tritonvision.errors import InvalidPicture
from tritonvision.facade.context import service_of
from tritonvision.facade.service import Answered, Read
from tritonvision.publication import FEATURES, Manifest

TASKS = (tasks.EMBEDDING.name, tasks.CLASSIFICATION.name)  # of the models that have vectors


async def vectors(request: Request, manifest: Manifest, pictures: Sequence[Read], auto_orient: bool = True) -> Answered:
    """float32 ``[1,D]`` for each picture, as long as the network makes it.

    Raises:
        NotSupported: the model is a classifier that was published without its features.
        InvalidPicture, Overloaded, ...: as :meth:`Service.ask_samples`.
    """
    if not pictures:
        raise InvalidPicture("There is no picture in the request.")
    role = "" if manifest.task == tasks.EMBEDDING.name else FEATURES
    settings = tasks.resolve(tasks.EMBEDDING.parameters, {"auto_orient": auto_orient})
    samples: list[dict] = [{} for _ in pictures]
    return await service_of(request).ask_samples(request, manifest, samples, settings, pictures=pictures, role=role)
