"""Roboflow's dialect: ``/infer/embeddings``, the features or the logits of pictures by any classifier or embedder."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from typing import Any, Literal

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from tritonvision import tasks
from tritonvision.errors import NotSupported
from tritonvision.facade.context import service_of
from tritonvision.facade.dialects.common import features
from tritonvision.facade.dialects.common.body import read_body
from tritonvision.facade.dialects.common.schemas import json_schema
from tritonvision.facade.dialects.roboflow.model_choice import model_of
from tritonvision.facade.dialects.roboflow.schemas import PicturesRequest
from tritonvision.facade.replies import reply
from tritonvision.facade.routing import Routes
from tritonvision.facade.service import Answered, Read
from tritonvision.publication import Manifest
from tritonvision.results import MultiLabelClassificationPrediction

router = Routes(tags=["Roboflow"])

_LOGITS = "logits"
_DEFINITIONS = {tasks.EMBEDDING.name: "embedding", tasks.CLASSIFICATION.name: "input of the last layer"}


class EmbeddingsRequest(PicturesRequest):
    """``/infer/embeddings``."""

    output_type: Literal["feature_vector", "logits"] = "feature_vector"


@router.post("/infer/embeddings", openapi_extra=json_schema(EmbeddingsRequest))
async def embeddings(request: Request) -> Response:
    """One vector a picture: of an embedder its answer, of a classifier what its last layer reads, or its logits."""
    ask = await read_body(request, EmbeddingsRequest)
    service = service_of(request)
    manifest = await model_of(request, ask.model_id, features.TASKS)
    reads: list[Read] = [partial(service.pictures.read, image.type, image.value) for image in ask.images]
    if ask.output_type == _LOGITS:
        answered = await _logits(request, ask, manifest, reads)
        rows = [_scores(result) for result in answered.results]
    else:
        answered = await features.vectors(request, manifest, reads, not ask.disable_preproc_auto_orient)
        rows = [result[0] for result in answered.results]
    vectors = np.stack(rows)
    told = _told(answered.manifest, ask.output_type, vectors.shape[1])
    return reply({"embeddings": vectors, "embedding_info": told, "time": answered.seconds, "inference_id": ask.id})


async def _logits(request: Request, ask: EmbeddingsRequest, manifest: Manifest, reads: list[Read]) -> Answered:
    """What the classifier gives before its activation. Raises NotSupported of an embedder."""
    if manifest.task != tasks.CLASSIFICATION.name:
        raise NotSupported(f"'{manifest.id}' knows no classes, so it has no logits.", hint="Leave output_type out.")
    given = {"auto_orient": not ask.disable_preproc_auto_orient, "confidence": 0.0, "function": "none"}
    settings = tasks.resolve(tasks.CLASSIFICATION.parameters, given)
    return await service_of(request).ask(request, manifest, reads, settings)


def _scores(result: Any) -> np.ndarray:
    return result.confidence if isinstance(result, MultiLabelClassificationPrediction) else result.confidence[0]


def _told(manifest: Manifest, output_type: str, dimension: int) -> dict[str, Any]:
    """What the vectors are. Those of one ``space_id`` can be compared with each other."""
    logits = output_type == _LOGITS
    graphs = sorted(digest for path, digest in manifest.files.items() if path.startswith("net--"))
    space = [output_type, manifest.sha256, manifest.input_size, graphs if logits else None]  # a head has its own logits
    serving = manifest.serving_variant
    return {
        "model_id": manifest.id, "feature_definition": _LOGITS if logits else _DEFINITIONS[manifest.task],
        "output_type": output_type, "dimension": dimension, "normalization": "none", "preprocessing": {},
        "space_id": hashlib.sha256(json.dumps(space).encode()).hexdigest(), "backend": manifest.backend,
        "precision": manifest.precision if serving is None else serving.precision,
    }  # fmt: skip
