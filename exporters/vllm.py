"""Models that write behind a vLLM engine, for Triton's container with vLLM on a GPU: nothing is exported.

Two Triton models are published: the public one, a thin adapter with the tensors of all our models that write, and the
engine, ``backend: "vllm"``, whose ``model.json`` names the weights. The embedded tritonserver has no such backend.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from tritonvision import __version__, catalog
from tritonvision.ensembles.entry_points import EngineChat
from tritonvision.errors import ExportFailed, InvalidParameter
from tritonvision.exporters import publish
from tritonvision.publication import Manifest, Repository
from tritonvision.tasks import VLM

_PICTURES = 32  # of one conversation, as our own models take
_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")
# How families write places in a picture, see tritonvision/grounding; the first counts pixels of the resized picture.
IN_PIXELS = "qwen2_5"
CONVENTIONS = {
    "Qwen2.5-VL": IN_PIXELS, "Cosmos Reason1": IN_PIXELS, "Qwen3-VL": "qwen3", "InternVL 3.5": "internvl",
    "PaliGemma": "paligemma",
}  # fmt: skip


def publish_engine(
    repository: Path, model_id: str, weights: Path, as_id: str | None = None, engine: Mapping[str, Any] | None = None,
    force: bool = False,
) -> Manifest:  # fmt: skip
    """Publish the two Triton models of a checkpoint that vLLM reads.

    Args:
        model_id: of the catalogue, a model that writes.
        weights: the checkpoint's folder, as the engine sees it, too.
        as_id: the public id, where that is another one.
        engine: further arguments of vLLM's engine.
        force: replace what is published under that id; without it, that is left alone.

    Raises:
        InvalidParameter: the model does not write, or the id is taken. UnknownModel: there is no such id.
        BrokenModel: something unreadable is published under that id, and ``force`` is not given.
        ExportFailed: the folder lacks the chat template or the tokenizer.
        SetupError: the repository cannot be written.
    """
    entry = catalog.find(model_id)
    if entry.task != VLM.name:
        raise InvalidParameter(f"'{entry.id}' does {entry.task}; vLLM runs models that write.")
    public_id = catalog.check_id(as_id or entry.id)
    if not force and Repository(repository).existing(public_id) is not None:
        raise InvalidParameter(f"'{public_id}' is published already.", hint="Replace it with --force.")
    name = engine_name(catalog.triton_name(public_id))
    point, engine = EngineChat(name, tuple(_options(weights).items())), dict(engine or {})
    convention = CONVENTIONS.get(entry.family, "")
    manifest = Manifest(
        id=public_id, family=entry.family, task=VLM.name, head=point.name, weights="user", source=weights.name,
        sha256="", license=entry.license, precision="as vLLM runs it", labels=(), input_size=None, steps=(name,),
        grounding=convention, grounding_pixels=_pixels(weights, engine) if convention == IN_PIXELS else None,
        backend="vllm", versions={"tritonvision": __version__},
        notes=("vLLM runs it, and nothing here has measured what it answers.",),
    )  # fmt: skip
    arguments = {"model": str(weights.resolve()), "limit_mm_per_prompt": {"image": _PICTURES}} | engine
    files = {"config.pbtxt": engine_config(name).encode(), "1/model.json": json.dumps(arguments, indent=1).encode()}
    with publish.staging(repository) as folder:
        return publish.publish(repository, folder, manifest, (point,), {}, beside={name: files})


def engine_name(name: str) -> str:
    """Triton name of the engine behind the public model ``name``."""
    return f"engine--{name}"


def engine_config(name: str) -> str:
    """The ``config.pbtxt`` of an engine; the backend itself declares its tensors."""
    config = pb.ModelConfig(name=name, backend="vllm")
    config.instance_group.add(kind=pb.ModelInstanceGroup.KIND_MODEL, count=1)
    return text_format.MessageToString(config)


def _options(weights: Path) -> dict[str, Any]:
    """What the adapter needs of a checkpoint: its template and its special tokens. Raises ExportFailed."""
    settings = _json(weights / "tokenizer_config.json")
    template: Any
    try:
        template = (weights / "chat_template.jinja").read_text(encoding="utf-8")
    except OSError:
        inner = _json(weights / "chat_template.json").get("chat_template")
        template = inner or settings.get("chat_template")
    if not isinstance(template, str):
        raise ExportFailed(
            "The folder of weights has no chat template.",
            hint="It is chat_template.jinja, chat_template.json, or a field of tokenizer_config.json.",
        )
    added = _json(weights / "tokenizer.json").get("added_tokens")
    if added is None:
        raise ExportFailed("The folder of weights has no tokenizer.json.")
    named = {name: settings.get(name) for name in _TOKENS}
    tokens = {name: value["content"] if isinstance(value, dict) else value or "" for name, value in named.items()}
    return {
        "template": template, "tokens": tokens,
        "special": sorted({token["content"] for token in added if token.get("special")}),
    }  # fmt: skip


def _pixels(weights: Path, engine: Mapping[str, Any]) -> tuple[int, int, int]:
    """Within which bounds the engine resizes pictures, see :func:`tritonvision.grounding.smart_resize.smart_resize`.

    They are the engine's arguments, or else the checkpoint's; what neither says is as transformers' processor has it.
    """
    told = _json(weights / "preprocessor_config.json")
    size = told.get("size") or {}
    told |= {"min_pixels": told.get("min_pixels") or size.get("shortest_edge", 56 * 56)}
    told |= {"max_pixels": told.get("max_pixels") or size.get("longest_edge", 1280 * 28 * 28)}
    told |= engine.get("mm_processor_kwargs", {})
    return told.get("patch_size", 14) * told.get("merge_size", 2), told["min_pixels"], told["max_pixels"]


def _json(path: Path) -> dict[str, Any]:
    """A JSON object in a file, empty where there is none. Raises ExportFailed."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExportFailed(f"The file {path.name} of the weights cannot be read.") from error
    return found if isinstance(found, dict) else {}
