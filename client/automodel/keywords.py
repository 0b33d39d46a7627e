"""Keywords that AutoModel takes for compatibility: those of inference-models, its backends, and older spellings."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tritonvision import tasks
from tritonvision.engine.facts import Facts
from tritonvision.errors import InvalidParameter, NotSupported

# Keywords of inference-models 0.39.6 (and ``disabled_backends`` and others of its keyword-only ones) that choose among
# packages, files and devices there. Here the server makes that choice, so they are accepted and ignored.
WITHOUT_MEANING = frozenset(
    "model_package_id batch_size quantization onnx_execution_providers device default_onnx_trt_options "
    "max_package_loading_attempts verbose model_download_file_lock_acquire_timeout allow_untrusted_packages "
    "trt_engine_host_code_allowed verify_hash_while_download download_files_without_hash use_auto_resolution_cache "
    "auto_resolution_cache allow_direct_local_storage_loading model_access_manager nms_fusion_preferences model_type "
    "task_type allow_loading_dependency_models dependency_models_params point_model_directory forwarded_kwargs "
    "weights_provider_extra_query_params weights_provider_extra_headers content_addressed_artifact_cache "
    "required_capabilities preloaded_model_dependencies disabled_backends allow_vllm_proxy".split()
)
_OWN = ("weights_provider", "api_key", "backend", "server", "allow_local_code_packages")

# Backends as inference-models spells them, and as a manifest does.
BACKENDS = {
    "onnx": "onnx", "trt": "trt", "tensorrt": "trt", "torch": "torch", "torch-script": "torch-script",
    "hugging-face": "hugging-face", "mediapipe": "mediapipe", "ultralytics": "ultralytics", "custom": "custom",
}  # fmt: skip
_NAMED = ("onnx", "trt", "tensorrt", "torch", "torch-script", "hugging-face", "mediapipe", "ultralytics")

# Older spellings of settings, and those of inference-models' prompts.
_ALIASES = {
    "conf_thresh": "confidence", "iou_thresh": "iou_threshold", "point_coordinates": "points", "boxes": "box",
    "multimask_output": "multimask", "multi_mask_output": "multimask",
}  # fmt: skip
_BY_DEFAULT = ("default", "best")


def check_peer(given: Collection[str]) -> None:
    """Raises InvalidParameter for an unknown keyword of ``from_pretrained``."""
    for name in given:
        if name not in WITHOUT_MEANING:
            raise InvalidParameter(
                f"from_pretrained does not know '{name[:60]}'.",
                hint=f"It takes {', '.join(_OWN)}; other keywords of inference-models are accepted without a meaning.",
            )


def choose_backend(wanted: str | Iterable[str] | None, published: Sequence[str], model_id: str) -> str:
    """The backend to serve: the first wanted one that is published; the best published one for None.

    Args:
        published: best first.

    Raises:
        InvalidParameter: a name that is no backend.
        NotSupported: none of the wanted ones is published.
    """
    if not wanted:
        return published[0]
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    asked = []
    for name in names:
        known = BACKENDS.get(str(getattr(name, "value", name)).strip().lower().replace("_", "-"))
        if known is None:
            raise InvalidParameter(f"'{str(name)[:40]}' is no backend.", hint=f"Known are: {', '.join(_NAMED)}.")
        asked.append(known)
    for name in asked:
        if name in published:
            return name
    have = " and ".join(published)
    if "trt" in asked:
        raise NotSupported(
            f"'{model_id}' is published as {have}; a TensorRT plan of it has not been made.",
            hint=f"Make one with: tritonvision variants add {model_id} --engine tensorrt, or leave backend out.",
        )
    raise NotSupported(
        f"'{model_id}' is published as {have}, not as {' or '.join(dict.fromkeys(asked)) or 'nothing'}.",
        hint=f"It is made of the same weights: leave backend out, or pass backend='{published[0]}'.",
    )


def settings_for(facts: Facts, given: Mapping[str, Any]) -> dict[str, Any]:
    """Every setting of the model's task, from the keywords of a call in any spelling.

    ``confidence="default"`` and ``"best"`` mean the default. Classes are the texts to look for in an open-vocabulary
    model, else those to keep (``class_filter`` or ``classes``), by id or name.

    Raises:
        InvalidParameter: a setting is unknown, given twice, or has a wrong value.
    """
    plain = canonical(given)
    if facts.task == tasks.OPEN_VOCABULARY.name:
        if "classes" in plain:
            plain["texts"] = _texts(plain.pop("classes"))
        if not plain.get("texts"):
            raise InvalidParameter(
                f"'{facts.id}' has to be told what to look for.", hint="Call model(images, ['a cat', 'a dog'])."
            )
    else:
        if (kept := plain.pop("class_filter", None)) is not None:
            if plain.get("classes") is not None:
                raise InvalidParameter("'classes' is there twice, once as 'class_filter'.")
            plain["classes"] = kept
        if isinstance(plain.get("classes"), str | list):
            plain["classes"] = _ids(facts, plain["classes"])
    return tasks.resolve(tasks.TASKS[facts.task].parameters, plain)


def canonical(given: Mapping[str, Any]) -> dict[str, Any]:
    """``given`` under the names of our tasks, in Python's own numbers and lists. Raises InvalidParameter."""
    plain: dict[str, Any] = {}
    for name, value in given.items():
        known = _ALIASES.get(name, name)
        if known in plain:
            raise InvalidParameter(f"'{known}' is there twice, once as '{name}'.")
        if known == "confidence" and isinstance(value, str) and value in _BY_DEFAULT:
            value = None
        plain[known] = _plain(value)
    return plain


def _plain(value: Any) -> Any:
    """NumPy's numbers and arrays, tensors and tuples as Python's own numbers and lists."""
    if isinstance(value, np.generic):
        return value.item()
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return value


def _texts(value: Any) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) and text.strip() for text in texts):
        raise InvalidParameter("'classes' must be a list of texts, one a class.")
    return texts


def _ids(facts: Facts, classes: str | list[Any]) -> list[Any]:
    """Class ids out of ids and names; a name is the id of every class that has it. Raises InvalidParameter."""
    ids: list[Any] = []
    for name in [classes] if isinstance(classes, str) else classes:
        if not isinstance(name, str):
            ids.append(name)
            continue
        found = [i for i, label in enumerate(facts.labels) if label == name]
        if not found:
            shown = ", ".join(facts.labels[:10]) + (", ..." if len(facts.labels) > 10 else "")
            raise InvalidParameter(f"'{facts.id}' has no class '{name[:60]}'.", hint=f"It has: {shown}.")
        ids += found
    return ids
