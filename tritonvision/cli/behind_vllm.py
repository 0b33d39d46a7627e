"""What ``tritonvision export --engine vllm`` takes, and its publishing."""

from __future__ import annotations

from pathlib import Path

from tritonvision.errors import InvalidParameter
from tritonvision.publication import Manifest


def the_model(model_ids: list[str], given: list[str]) -> str:
    """The one model; ``given`` are options that mean nothing there. Raises InvalidParameter."""
    if len(model_ids) == 1 and not given:
        return model_ids[0]
    raise InvalidParameter(
        f"{given[0]} has no meaning behind vLLM." if given else "Behind vLLM one model is named, by its id.",
        hint="tritonvision export MODEL_ID --engine vllm --weights FOLDER --as PROJECT/VERSION",
    )


def publish(model_id: str, weights: Path, repository: Path, as_id: str | None, force: bool) -> Manifest:
    """Publish a checkpoint for Triton's container with vLLM. Raises InvalidParameter of what is no folder."""
    from tritonvision.exporters import vllm

    if not weights.is_dir():
        raise InvalidParameter(
            "Behind vLLM the weights are a folder, which the engine reads itself.", hint="Name it: --weights FOLDER"
        )
    return vllm.publish_engine(repository, model_id, weights, as_id, force=force)
